package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/mountpoint"
	"envfs/cmd/envfs/internal/secret"
	"envfs/cmd/envfs/internal/state"
)

// mountRequest says what to mount, where and how. It travels to the daemon through a pipe.
type mountRequest struct {
	Store      string        `json:"store"`
	Mountpoint string        `json:"mountpoint"`
	Secrets    secret.Bundle `json:"secrets"`
	AllowOther bool          `json:"allow_other"`
	Writeback  bool          `json:"writeback"`
	openOptions
}

func (a *app) mountCommand() *cobra.Command {
	var (
		req        mountRequest
		src        secret.Source
		foreground bool
		limits     *bucketLimits
	)
	c := &cobra.Command{
		Use:   "mount STORE MOUNTPOINT",
		Short: "Show a vault's files at a mount point",
		Long: `Open the vault in STORE and show its files at MOUNTPOINT, an empty directory.

The command returns when the mount works; a daemon stays behind until 'envfs unmount'. While nothing is mounted,
MOUNTPOINT is left with mode 0500, so that nobody writes unencrypted files there by mistake.

What is written to a vault in a bucket lies in the state directory (--state-dir) until it is published, within seconds.
While the bucket is away work goes on until --state-size waits there; then writes wait, after --wait they fail.`,
		Example: `  envfs mount ~/vault ~/private
  envfs mount ~/vault ~/private --keyfile ~/vault.key
  envfs mount 's3://team/vault?endpoint=https://minio.example:9000' ~/team
  envfs mount --follow 's3://team/vault?endpoint=https://minio.example:9000' ~/team-ro
  envfs mount --state-dir /srv/work --state-size 50000 --wait 1h 's3://team/vault?endpoint=...' ~/team
  envfs mount --read-only --root roots/00000000000000000042-... ~/vault ~/before`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if req.Root != "" && !req.ReadOnly {
				return usageError(c, errors.New("--root needs --read-only: only the newest root is written to"))
			}
			if err := req.canFollow(args[0]); err != nil {
				return usageError(c, err)
			}
			if err := limits.set(&req.openOptions); err != nil {
				return usageError(c, err)
			}
			req.Places = a.at
			return a.mount(c.Context(), args[0], args[1], &req, &src, foreground)
		},
	}
	f := c.Flags()
	src.Flags(f, "")
	src.OpeningFlags(f)
	a.placeFlags(f)
	f.BoolVarP(&foreground, "foreground", "f", false, "do not leave a daemon behind; log to standard error")
	f.BoolVarP(&req.ReadOnly, "read-only", "r", false, "only look")
	f.BoolVar(&req.Follow, "follow", false, "only look, and see within seconds what another machine writes to the bucket")
	f.StringVar(&req.Root, "root", "", "show the vault as the root object `NAME` has it")
	f.BoolVar(&req.AcceptOlder, "accept-older", false, "go on from a copy that is older than, or other than, what was seen here")
	f.BoolVar(&req.Takeover, "takeover", false, "write although another machine has not said that it is done")
	f.BoolVar(&req.AllowOther, "allow-other", false, "let other users in, as far as permissions let them")
	f.BoolVar(&req.ShowNames, "show-names", false, "let the log name damaged files by path; it lies unencrypted in the user's state")
	limits = bucketFlags(f)
	f.BoolVar(&req.Writeback, "writeback", false, "let the kernel gather small writes")
	return c
}

// canFollow refuses to follow what nobody publishes to.
func (r *mountRequest) canFollow(store string) error {
	switch {
	case !r.Follow:
		return nil
	case r.Takeover || r.Root != "":
		return errors.New("--follow reads along, with neither --takeover nor --root")
	case !isBucket(store):
		return errors.New("--follow is for vaults in a bucket; of one in a directory mount a copy, read-only")
	}
	r.ReadOnly = true
	return nil
}

func (a *app) mount(ctx context.Context, storeArg, pointArg string, req *mountRequest, src *secret.Source, foreground bool) error {
	var err error
	if req.Store, err = storePath(storeArg); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if isBucket(req.Store) {
		if err := req.Apart(); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
	}
	kf, _, err := peek(ctx, req.Store, req.Root)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if req.Mountpoint, err = preparePoint(pointArg, req); err != nil {
		return err
	}
	if req.Secrets, err = a.secrets(ctx, src, kf); err != nil {
		return fmt.Errorf("mount %s: %w", storeArg, err)
	}
	defer req.Secrets.Wipe()
	tell := func() {
		if isBucket(req.Store) && !req.ReadOnly {
			a.tellPlaces(req.Store, pointArg)
		}
	}
	if foreground {
		return a.mountHere(ctx, req, tell)
	}
	if err := a.mountBehind(ctx, req, kf.VaultID()); err != nil {
		return err
	}
	tell()
	return nil
}

// preparePoint finds out, before any secret is asked for, whether the mount is possible.
func preparePoint(arg string, req *mountRequest) (string, error) {
	if !req.ReadOnly {
		if err := ownMount(req.Store, req.Places); err != nil {
			return "", fmt.Errorf("mount: %w", err)
		}
	}
	point, err := mountpoint.Resolve(arg)
	if err != nil {
		// The message of what is missing is the same whether the path can be resolved or not.
		point = arg
	}
	if _, err := mountpoint.Check(point, storeName(req.Store)); err != nil {
		return "", fmt.Errorf("mount: %w", err)
	}
	if err := mountpoint.CanMount(req.AllowOther); err != nil {
		return "", fmt.Errorf("mount: %w", err)
	}
	return point, nil
}

// ownMount returns an error that says where a daemon of this user has the store mounted for writing, if one has. With
// another state directory it is as good as on another machine.
func ownMount(store string, at state.Places) error {
	cs, err := control.Find(func(h control.Hello) bool {
		return h.Store == storeName(store) && !h.ReadOnly && (h.StateDir == "" || h.StateDir == placeOf(store, at))
	})
	if err != nil {
		return err
	}
	for _, c := range cs {
		defer c.Close()
	}
	if len(cs) == 0 {
		return nil
	}
	return mountedBy(cs[0].Hello)
}

// mountHere serves the mount in this process. It calls tell when the mount works.
func (a *app) mountHere(ctx context.Context, req *mountRequest, tell func()) error {
	b := a.newBar()
	defer b.clear()
	return serve(ctx, req, newLog(a.talk), reporter{
		progress: b.show,
		notice:   func(text string) { a.say("%s", text) },
		ready: func() {
			b.clear()
			tell()
			if err := notifyReady(); err != nil {
				a.say("systemd was not told that the mount works: %v", err)
			}
		},
	})
}
