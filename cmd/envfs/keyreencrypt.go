package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/mountpoint"
	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
)

func (a *app) keyReencryptCommand() *cobra.Command {
	var (
		src    secret.Source
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "reencrypt PATH | reencrypt STORE",
		Short: "Seal files anew under new data keys",
		Long: `Give the file at PATH in a mount, or all files in the directory there, or all of a vault that is not mounted, data keys of the
newest key epoch, and seal their content anew under them. Who knew the old data keys can then read nothing of what the store holds but superseded
objects, which go after the grace, and copies. It reads and writes all content. When it is broken off, the next one goes on.`,
		Example: `  envfs key rotate ~/vault && envfs key reencrypt ~/private/letters`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.reencrypt(c.Context(), args[0], &src, asJSON); err != nil {
				return fmt.Errorf("key reencrypt: %w", err)
			}
			return nil
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object when it is done")
	return c
}

func (a *app) reencrypt(ctx context.Context, arg string, src *secret.Source, asJSON bool) error {
	store, path, err := storeOrMounted(arg)
	if err != nil {
		return err
	}
	var res *fs.ReencryptResult
	err = a.askVault(ctx, store, src, openOptions{}, control.Request{Verb: control.Reencrypt, Path: path}, func(r control.Reply) {
		if r.Reencrypted != nil {
			res = r.Reencrypted
		}
	})
	if res != nil && asJSON {
		if oerr := a.object(res); oerr != nil {
			return oerr
		}
	} else if res != nil {
		a.say("%s have new data keys; %s had them already.", plural(res.Files, "file", "files"), plural(res.Done, "file", "files"))
	}
	if err != nil {
		return err
	}
	if res != nil && res.Damaged > 0 {
		return hint(fmt.Errorf("%w: %s keep their old data keys", errPartly, plural(res.Damaged, "damaged file", "damaged files")),
			"`envfs check` names them")
	}
	return nil
}

// vaultPath returns the store that arg names: by its place, or by the place where it is mounted.
func vaultPath(arg string) (string, error) {
	store, path, err := storeOrMounted(arg)
	if err == nil && path != "/" {
		err = hint(fmt.Errorf("open %s: it lies in a mounted vault: %w", arg, fs.ErrNoVault), "name the store or the mount point")
	}
	return store, err
}

// storeOrMounted returns the store and the path in the vault of what arg names: a path in a mount, or a store.
func storeOrMounted(arg string) (store, path string, err error) {
	if isBucket(arg) {
		store, err = storePath(arg)
		return store, "/", err
	}
	full, err := filepath.Abs(arg)
	if err != nil {
		return "", "", err
	}
	mounts, err := mountpoint.Envfs()
	if err != nil {
		return "", "", err
	}
	for _, m := range mounts {
		if in, ok := strings.CutPrefix(full, m.Path); ok && (in == "" || in[0] == '/') {
			return m.Source, "/" + strings.TrimPrefix(in, "/"), nil
		}
	}
	store, err = storePath(arg)
	return store, "/", err
}
