package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/mountpoint"
	"envfs/cmd/envfs/internal/secret"
)

func (a *app) syncCommand() *cobra.Command {
	var (
		asJSON, lost bool
		rescue       rescueRequest
		src          secret.Source
	)
	c := &cobra.Command{
		Use:   "sync MOUNTPOINT | sync --rescue STORE",
		Short: "Return when all that was written is safe",
		Long: `Return when all that was written through the mount is on disk; of a vault in a bucket, when it is in the bucket.

A bucket that is away is waited for. Ctrl-C ends the waiting only: what was written stays on this machine and is
published when the bucket is back.

If another machine took the vault over before all was published, --rescue brings the rest back into the vault, below
rescued/HOST-TIME/: every file that was made or changed here, whole, as it was here. Nothing that is in the vault is
changed.`,
		Example: `  envfs sync ~/team
  envfs sync --json ~/team && poweroff
  envfs sync --rescue 's3://team/vault?endpoint=https://minio.example:9000'
  envfs sync --rescue --plaintext ~/unencrypted 's3://team/vault'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !lost && (rescue.plaintext != "" || rescue.takeover) {
				return usageError(c, errors.New("--plaintext and --takeover belong to --rescue"))
			}
			if lost {
				return a.rescue(c.Context(), args[0], rescue, &src)
			}
			return a.sync(c.Context(), args[0], asJSON)
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().BoolVar(&lost, "rescue", false, "bring back what could not be published because the vault was taken over")
	c.Flags().Var((*dirFlag)(&rescue.plaintext), "plaintext", "with --rescue: put it unencrypted into the directory `DIR`, not into the vault")
	c.Flags().BoolVar(&rescue.takeover, "takeover", false, "with --rescue: write although another machine has not said that it is done")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object when it is done")
	return c
}

func (a *app) sync(ctx context.Context, arg string, asJSON bool) error {
	point, err := mountpoint.Resolve(arg)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	c, err := daemonAt(point)
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("sync %s: %w", arg, errNotMounted)
	}
	defer c.Close()
	b := a.newBar()
	defer b.clear()
	var done *control.Synced
	err = c.Do(ctx, control.Request{Verb: control.Sync}, func(r control.Reply) {
		b.tell(r)
		if r.Synced != nil {
			done = r.Synced
		}
	})
	b.clear()
	if err != nil || !asJSON || done == nil {
		return err
	}
	return a.object(done)
}

// daemonAt connects to the daemon of this user that has mounted a vault at a place, the last one if they are several. It
// returns nil if there is none.
func daemonAt(point string) (*control.Client, error) {
	clients, err := control.Find(func(h control.Hello) bool { return h.Mountpoint == point })
	if err != nil || len(clients) == 0 {
		return nil, err
	}
	last := len(clients) - 1
	for _, c := range clients[:last] {
		c.Close()
	}
	return clients[last], nil
}
