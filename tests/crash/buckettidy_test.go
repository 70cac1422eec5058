package crash

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
)

// graceEnds folds until the grace of all that is superseded has ended, and checks what lies in the bucket then.
func (a *machine) graceEnds() error {
	work := func() error { return a.mkdirNew() }
	mount := func() error { return a.publishes(a.remount) }
	pass := func() error { a.clock.advance(32 * 24 * time.Hour); return nil }
	fold := func() error { return a.publishes(a.foldBeside) }
	a.aside = nil
	for i, do := range []func() error{work, fold, pass, mount, work, fold, pass, work, fold, pass, mount, work, fold, a.sweep, work, fold, a.verify, a.isSeen, a.isTidy} {
		if err := do(); err != nil {
			return fmt.Errorf("after the grace, %d: %w", i, err)
		}
	}
	return errors.Join(a.closeHandles(), a.store.Close())
}

func (a *machine) mkdirNew() error {
	return a.mkdir(fmt.Sprintf("/grace%d", len(a.hist.steps)))
}

// isTidy checks that nothing lies in the bucket that nothing names. The vault was folded, and nothing was done since.
func (a *machine) isTidy() error {
	all := a.far.now()
	file, prefix, err := fs.Peek(a.ctx, a.store, "")
	if err != nil {
		return err
	}
	keys, err := a.opener.unlockNewest(a.ctx, a.store, file)
	if err != nil {
		return err
	}
	v := blockcrypt.Vault{Suite: blockcrypt.Suite(file.Params().Suite), ID: file.VaultID()}
	root, err := v.OpenRoot(keys, all.root())
	if err != nil {
		return err
	}
	recs, err := foldRecords(a.ctx, a.store, v, keys, root.Fold)
	if err != nil {
		return err
	}
	named := map[string]bool{blockcrypt.RootName: true, blockcrypt.KeyCopyName: true, prefix.KeyFile.Name: true, root.Fold.Name: true}
	needed := make(map[string]bool)
	for _, rec := range recs {
		for _, r := range rec.Runs {
			named[r.Name] = true
		}
		for _, b := range rec.Born {
			needed[b.Name] = true
		}
	}
	for _, rec := range recs {
		for _, d := range rec.Dead {
			delete(needed, d.Name)
			if d.Died > root.Purged {
				named[d.Name] = true
			}
		}
	}
	for name := range needed {
		if named[name] = true; all[name] == nil {
			return fmt.Errorf("%s is needed and gone", name)
		}
	}
	newest := uint64(0)
	for _, t := range root.Terms {
		newest = max(newest, t.Number)
	}
	var left []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n, err := blockcrypt.ParseName(name)
		switch {
		case err != nil:
			return fmt.Errorf("%s is no object", name)
		case named[name], n.Kind == blockcrypt.KindOldRoot, n.Kind == blockcrypt.KindKeyFile,
			n.Kind == blockcrypt.KindSegment && n.Term == newest: // they stay for one fold more
		default:
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("nothing names %q", left)
	}
	return a.audit()
}
