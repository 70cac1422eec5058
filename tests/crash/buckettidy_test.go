package crash

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/remote"
)

// graceEnds folds until the grace of all that is superseded has ended, and checks what lies in the bucket then.
func (a *machine) graceEnds() error {
	work := func() error { return a.mkdirNew() }
	mount := func() error { return a.publishes(a.remount) }
	pass := func() error { a.clock.advance(32 * 24 * time.Hour); return nil }
	fold := func() error { return a.publishes(a.fold) }
	a.aside = nil
	for i, do := range []func() error{work, fold, pass, mount, work, fold, pass, work, fold, pass, mount, work, fold, a.sweep, work, fold, a.verify, a.isSeen, a.isTidy} {
		if err := do(); err != nil {
			return fmt.Errorf("after the grace, %d: %w", i, err)
		}
	}
	return errors.Join(a.closeHandles(), a.store.Close())
}

// graceEnds is the same for a vault in a directory.
func (s *session) graceEnds() error {
	work := func() error { return s.mkdir(fmt.Sprintf("/grace%d", s.clock.Now().UnixNano())) }
	pass := func() error { return s.pass(25 * time.Hour) }
	s.aside = nil
	for i, do := range []func() error{work, s.fold, pass, s.remount, work, s.fold, pass, work, s.fold, s.sweep, work, s.fold, s.verify,
		func() error { return s.tidy(s.store) }} {
		if err := do(); err != nil {
			return fmt.Errorf("after the grace, %d: %w", i, err)
		}
	}
	return nil
}

func (a *machine) mkdirNew() error {
	return a.mkdir(fmt.Sprintf("/grace%d", len(a.hist.steps)))
}

// isTidy checks that nothing lies in the bucket that nothing names. The vault was folded, and nothing was done since.
func (a *machine) isTidy() error { return a.tidy(a.far) }

// tidy checks that nothing lies on a store that nothing names.
func (s *session) tidy(st remote.Store) error {
	c, err := s.census()
	if err != nil {
		return err
	}
	_, prefix, err := fs.Peek(s.ctx, s.store, "")
	if err != nil {
		return err
	}
	named := map[string]bool{blockcrypt.RootName: true, blockcrypt.KeyCopyName: true, prefix.KeyFile.Name: true, c.root.Fold.Name: true}
	for _, rec := range c.recs {
		for _, r := range rec.Runs {
			named[r.Name] = true
		}
		for _, d := range rec.Dead {
			if d.Died > c.root.Purged {
				named[d.Name] = true
			}
		}
	}
	for name := range c.born {
		named[name] = true
	}
	newest := uint64(0)
	for _, t := range c.root.Terms {
		newest = max(newest, t.Number)
	}
	there := make(map[string]bool)
	var left []string
	err = st.List(s.ctx, "", func(i remote.Info) error {
		there[i.Name] = true
		n, err := blockcrypt.ParseName(i.Name)
		switch {
		case strings.HasPrefix(i.Name, "damaged/"): // what recovery has cut off
		case err != nil:
			return fmt.Errorf("%s is no object", i.Name)
		case named[i.Name], n.Kind == blockcrypt.KindOldRoot, n.Kind == blockcrypt.KindKeyFile,
			n.Kind == blockcrypt.KindSegment && n.Term == newest: // they stay for one fold more
		default:
			left = append(left, i.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for name := range c.born {
		if !there[name] {
			return fmt.Errorf("%s is needed and gone", name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("nothing names %q", left)
	}
	return s.audit()
}
