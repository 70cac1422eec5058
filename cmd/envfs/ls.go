package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
)

type lsFlags struct {
	secrets         secret.Source
	long, recursive bool
	asJSON          bool
}

func (a *app) lsCommand() *cobra.Command {
	var o lsFlags
	c := &cobra.Command{
		Use:   "ls STORE [PATH]",
		Short: "List files without a mount",
		Long:  `List the directory or file PATH of the vault in STORE, without a mount. Symbolic links are not followed.`,
		Example: `  envfs ls ~/vault
  envfs ls -lR ~/vault /src`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			name := "."
			if len(args) > 1 {
				name = inTree(args[1])
			}
			err := a.withTree(c.Context(), args[0], &o.secrets, func(t tree) error { return a.ls(c.Context(), t, name, &o) })
			if err != nil {
				return fmt.Errorf("ls: %w", err)
			}
			return nil
		},
	}
	o.secrets.Flags(c.Flags(), "")
	o.secrets.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().BoolVarP(&o.long, "long", "l", false, "show attributes")
	c.Flags().BoolVarP(&o.recursive, "recursive", "R", false, "list directories below, too")
	c.Flags().BoolVar(&o.asJSON, "json", false, "one JSON object for each file, with its path as name")
	return c
}

func (a *app) ls(ctx context.Context, t tree, name string, o *lsFlags) error {
	n, err := t.stat(ctx, name)
	if err != nil {
		return err
	}
	if n.Type != typeDirectory {
		n.Name = name
		return a.lsLine(n, o)
	}
	all, damage := t.list(ctx, name) // what is damaged harms only itself
	byName(all)
	if o.recursive && !o.asJSON {
		if _, err := fmt.Fprintf(a.out, "%s:\n", a.name(name)); err != nil {
			return err
		}
	}
	for _, n := range all {
		line := n
		if o.asJSON {
			line.Name = path.Join(name, n.Name)
		}
		if err := a.lsLine(line, o); err != nil {
			return err
		}
	}
	if !o.recursive {
		return damage
	}
	for _, n := range all {
		if n.Type != typeDirectory {
			continue
		}
		if !o.asJSON {
			if _, err := fmt.Fprintln(a.out); err != nil {
				return err
			}
		}
		if err := a.ls(ctx, t, path.Join(name, n.Name), o); err != nil {
			if ctx.Err() != nil {
				return err
			}
			damage = errors.Join(damage, err)
		}
	}
	return damage
}

func (a *app) lsLine(n node, o *lsFlags) error {
	if o.asJSON {
		if !utf8.ValidString(n.Name) {
			n.Bytes = []byte(n.Name)
		}
		if !utf8.ValidString(n.Target) {
			n.To = []byte(n.Target)
		}
		return a.object(n)
	}
	if !o.long {
		_, err := fmt.Fprintln(a.out, a.name(n.Name))
		return err
	}
	target := ""
	if n.Type == typeSymlink {
		target = " -> " + a.name(n.Target)
	}
	_, err := fmt.Fprintf(a.out, "%s %3d %5d %5d %12d %s %s%s\n", modeString(&n), n.Nlink, n.UID, n.GID, n.Size, moment(n.Mtime),
		a.name(n.Name), target)
	return err
}

// modeString returns the ten characters of ls -l.
func modeString(n *node) string {
	text := []byte("-rwxrwxrwx")
	switch n.Type {
	case typeDirectory:
		text[0] = 'd'
	case typeSymlink:
		text[0] = 'l'
	}
	for i := range 9 {
		if n.Mode&(0o400>>i) == 0 {
			text[i+1] = '-'
		}
	}
	special := func(bit uint32, at int, with, without byte) {
		if n.Mode&bit == 0 {
			return
		}
		if text[at] == 'x' {
			text[at] = with
		} else {
			text[at] = without
		}
	}
	special(0o4000, 3, 's', 'S')
	special(0o2000, 6, 's', 'S')
	special(0o1000, 9, 't', 'T')
	return string(text)
}
