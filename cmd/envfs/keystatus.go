package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
	"envfs/keystore"
)

// keyStatus is what `key status --json` prints.
type keyStatus struct {
	fs.KeyUse
	Generation uint64     `json:"generation"` // of the key file
	KeySlots   []slotUsed `json:"slots"`
}

// slotUsed is a slot and its last use.
type slotUsed struct {
	slotInfo
	Used *fs.SlotUse `json:"used,omitempty"` // for writing; nil: not of late
}

// usedSlots returns the slots of a key file with their last uses.
func usedSlots(kf *keystore.File, use *fs.KeyUse) []slotUsed {
	var all []slotUsed
	for _, s := range slotsOf(kf) {
		u := slotUsed{slotInfo: s}
		for i := range use.Slots {
			if use.Slots[i].Slot == s.ID {
				u.Used = &use.Slots[i]
			}
		}
		all = append(all, u)
	}
	return all
}

func (a *app) keyStatusCommand() *cobra.Command {
	var (
		src    secret.Source
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "status STORE",
		Short: "Show which key epochs are in use",
		Long: `Show how many objects of the tree each key epoch has sealed, which epochs the journal needs, and the slots: when they were made, when their
provider last wrapped their secret, when they last opened the vault for writing. The exit code is 3
while an older epoch than the newest is in use: 'envfs key rewrap' ends that.`,
		Example: `  envfs key status ~/vault
  envfs key status --json ~/vault | jq .tree`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.keyStatus(c.Context(), args[0], &src, asJSON); err != nil {
				return fmt.Errorf("key status: %w", err)
			}
			return nil
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return c
}

func (a *app) keyStatus(ctx context.Context, arg string, src *secret.Source, asJSON bool) error {
	path, err := vaultPath(arg)
	if err != nil {
		return err
	}
	kf, _, err := peek(ctx, path, "")
	if err != nil {
		return err
	}
	var use *fs.KeyUse
	err = a.askVault(ctx, path, src, openOptions{ReadOnly: true}, control.Request{Verb: control.KeyUse}, func(r control.Reply) {
		if r.KeyUse != nil {
			use = r.KeyUse
		}
	})
	if err != nil {
		return err
	}
	if asJSON {
		err = a.object(keyStatus{KeyUse: *use, Generation: kf.Generation(), KeySlots: usedSlots(kf, use)})
	} else {
		err = a.showKeyStatus(kf, use)
	}
	if err != nil {
		return err
	}
	if use.Old() > 0 || slices.ContainsFunc(use.Journal, func(e uint32) bool { return e != use.Newest }) {
		return hint(fmt.Errorf("%w; the newest is %d", errOldEpochs, use.Newest), "`envfs key rewrap %s` ends that", shellQuote(arg))
	}
	return nil
}

func (a *app) showKeyStatus(kf *keystore.File, use *fs.KeyUse) error {
	var b strings.Builder
	fmt.Fprintf(&b, "key file        generation %d, changed %s\n", kf.Generation(), moment(kf.Changed()))
	for i := range use.Tree {
		u := &use.Tree[i]
		name, since := fmt.Sprintf("key epoch %d", u.Epoch), "since "+moment(u.Began)
		if u.Epoch == 0 {
			name, since = "older epochs", "long ago"
		}
		if u.Epoch == use.Newest {
			since += ", the newest"
		}
		fmt.Fprintf(&b, "%-14s  %s: %s, %s, %s\n", name, since, plural(u.Headers, "header", "headers"),
			plural(u.Indexes, "index", "indexes"), plural(u.Pages, "map page", "map pages"))
	}
	if len(use.Journal) > 0 {
		fmt.Fprintf(&b, "journal         needs key epochs %s\n", strings.Trim(fmt.Sprint(use.Journal), "[]"))
	}
	if use.Skipped > 0 {
		fmt.Fprintf(&b, "not counted     %s cannot be read\n", plural(use.Skipped, "object", "objects"))
	}
	b.WriteString("slots\n")
	if _, err := fmt.Fprint(a.out, b.String()); err != nil {
		return err
	}
	for _, s := range usedSlots(kf, use) {
		line := slotLine(s.slotInfo)
		if !s.Wrapped.IsZero() {
			line += "; wrapped " + moment(s.Wrapped)
		}
		if s.Used != nil {
			line += "; last opened it for writing " + moment(s.Used.Time) + " by " + printable(s.Used.User+"@"+s.Used.Host)
		}
		if _, err := fmt.Fprintln(a.out, line); err != nil {
			return err
		}
	}
	return nil
}
