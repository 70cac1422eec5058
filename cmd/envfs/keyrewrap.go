package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
)

func (a *app) keyRewrapCommand() *cobra.Command {
	var (
		src    secret.Source
		slot   string
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "rewrap STORE",
		Short: "Wrap all data keys under the newest key epoch",
		Long: `Wrap all data keys under the newest key epoch, and seal anew what older epochs have sealed of the tree. Headers and indexes are
rewritten, content is not. It works on a mounted vault, too, beside its use; when it is broken off, the next one goes on.

With --slot, the provider of a slot wraps the slot's secret anew, by the newest version of its master key, which it may have rotated;
the data keys stay as they are.`,
		Example: `  envfs key rewrap ~/vault
  envfs key rewrap ~/vault --slot office`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if slot != "" {
				if err := a.requestRewrapSlot(c.Context(), args[0], slot, &src); err != nil {
					return fmt.Errorf("key rewrap: %w", err)
				}
				return nil
			}
			if err := a.rewrap(c.Context(), args[0], &src, asJSON); err != nil {
				return fmt.Errorf("key rewrap: %w", err)
			}
			return nil
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().StringVar(&slot, "slot", "", "wrap anew the secret of the slot that `SLOT` names, nothing else")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object when it is done")
	c.MarkFlagsMutuallyExclusive("slot", "json")
	return c
}

func (a *app) rewrap(ctx context.Context, arg string, src *secret.Source, asJSON bool) error {
	path, err := vaultPath(arg)
	if err != nil {
		return err
	}
	var res *fs.RewrapResult
	err = a.askVault(ctx, path, src, openOptions{}, control.Request{Verb: control.Rewrap}, func(r control.Reply) {
		if r.Rewrapped != nil {
			res = r.Rewrapped
		}
	})
	if res != nil && asJSON {
		if oerr := a.object(res); oerr != nil {
			return oerr
		}
	} else if res != nil {
		a.say("All is under key epoch %d now; the data keys of %s were wrapped anew.", res.Epoch, plural(res.Files, "file", "files"))
	}
	if err != nil {
		return err
	}
	if res != nil && res.Damaged > 0 {
		return hint(fmt.Errorf("%w: %s stay as they were", errPartly, plural(res.Damaged, "damaged file or directory", "damaged files or directories")),
			"`envfs check` names them")
	}
	return nil
}
