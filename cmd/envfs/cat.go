package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
)

func (a *app) catCommand() *cobra.Command {
	var src secret.Source
	c := &cobra.Command{
		Use:     "cat STORE PATH...",
		Short:   "Print files without a mount",
		Long:    `Print the content of files of the vault in STORE, without a mount. Symbolic links are not followed.`,
		Example: `  envfs cat ~/vault /src/README.md > out`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withTree(c.Context(), args[0], &src, func(t tree) error { return a.cat(c.Context(), t, args[1:]) })
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	return c
}

func (a *app) cat(ctx context.Context, t tree, paths []string) error {
	var errs []error
	for _, p := range paths {
		if err := a.catOne(ctx, t, inTree(p)); err != nil {
			errs = append(errs, fmt.Errorf("cat %s: %w", printable(p), err))
		}
	}
	return partly(errs, len(paths))
}

func (a *app) catOne(ctx context.Context, t tree, name string) error {
	n, err := t.stat(ctx, name)
	if err != nil {
		return err
	}
	switch n.Type {
	case typeDirectory:
		return fs.ErrIsDir
	case typeSymlink:
		return fmt.Errorf("it is a symbolic link to %s", printable(n.Target))
	}
	return t.read(ctx, name, a.out)
}
