package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
)

func (a *app) checkCommand() *cobra.Command {
	var (
		src    secret.Source
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "check STORE",
		Short: "Read and authenticate everything",
		Long: `Read and authenticate everything in a vault, mounted or not, and list by path what is damaged.

The exit code is 26 if something is. Nothing is changed.`,
		Example: `  envfs check ~/vault`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.check(c.Context(), args[0], &src, asJSON) },
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each finding, and one at the end")
	return c
}

func (a *app) check(ctx context.Context, arg string, src *secret.Source, asJSON bool) error {
	path, err := storePath(arg)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	b := a.newBar()
	defer b.clear()
	var res fs.CheckResult
	show := func(r control.Reply) {
		switch {
		case r.Progress != nil:
			b.show(*r.Progress)
		case r.Finding != nil && asJSON:
			_ = a.object(r.Finding) // the exit code tells, whoever reads
		case r.Finding != nil:
			b.clear()
			fmt.Fprintln(a.out, findingLine(r.Finding))
		case r.Checked != nil:
			res = *r.Checked
		}
	}
	clients, err := control.Find(func(h control.Hello) bool { return h.Store == storeName(path) && h.Root == "" })
	if err != nil {
		return err
	}
	for _, c := range clients {
		defer c.Close()
	}
	if len(clients) > 0 {
		err = clients[0].Do(ctx, control.Request{Verb: control.Check}, show)
	} else {
		err = a.withVault(ctx, path, src, func(v *vault) error { return check(ctx, v.FS, show) })
	}
	b.clear()
	if err != nil {
		return fmt.Errorf("check %s: %w", arg, err)
	}
	if asJSON {
		if err := a.object(res); err != nil {
			return err
		}
	} else {
		a.say("%s, %s, %s of content in %s and the journal: %s", plural(res.Files, "file", "files"), plural(res.Dirs, "directory", "directories"),
			size(res.Bytes), plural(res.Objects, "object", "objects"), verdict(&res))
	}
	if res.Damaged > 0 {
		return fmt.Errorf("check %s: %w", arg, errDamage)
	}
	return nil
}

func verdict(res *fs.CheckResult) string {
	text := "all of it is whole"
	if res.Damaged > 0 {
		text = fmt.Sprintf("%d damaged", res.Damaged)
	}
	if res.Foreign > 0 {
		text += "; " + plural(res.Foreign, "file", "files") + " that envfs has not made"
	}
	return text
}

func findingLine(f *fs.Finding) string {
	line := f.Path
	if line == "" {
		line = f.Object
	}
	line = printable(line) + ": " + spelled(f.What)
	if f.Harm != "" {
		line += " (" + f.Harm + ")"
	}
	return line
}

// withVault opens the vault in the store at path to look at it, and calls fn.
func (a *app) withVault(ctx context.Context, path string, src *secret.Source, fn func(*vault) error) error {
	kf, _, err := peek(ctx, path, "")
	if err != nil {
		return err
	}
	b, err := a.secrets(ctx, src, kf)
	if err != nil {
		return err
	}
	log := slog.New(&teller{Handler: slog.DiscardHandler, tell: func(text string) { a.say("%s", text) }})
	v, err := open(ctx, path, &b, openOptions{ReadOnly: true, Places: a.at}, log, nil)
	if err != nil {
		return err
	}
	err = fn(v)
	if cerr := v.Close(ctx); err == nil {
		err = cerr
	}
	return err
}
