package fs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"envfs/blockcrypt"
	"envfs/remote"
)

// survey is what opening has found out about the roots on the store.
type survey struct {
	own     *foundRoot   // the root object, or that which was asked for
	chosen  *foundRoot   // to go on from
	disk    []byte       // the root object as it lies there
	same    bool         // the store is the one that root was written to, no copy
	newer   bool         // a newer root was found in roots/, and chosen
	older   bool         // chosen is not the newest: what lies between is incomplete
	skipped []*foundRoot // what continues chosen and is not complete
	seen    []*foundRoot // all but own that could be opened
	forks   []*foundRoot // those of them that are neither older nor newer than the newest
	locked  []unopened   // roots under key epochs that own's key file does not have: it cannot be told whose they are
	torn    []unopened   // what else lies in roots/ and cannot be opened, if it is newer than all that can
	beyond  bool         // folds later than chosen's have left objects: they may be what a root needs that is not here
	forked  bool         // there are forks, or locked roots that are one
	seq     uint64       // highest sequence of a root seen
	fold    uint64       // highest number of a fold seen
}

// unopened is a root of which only the name, or the clear prefix, is known.
type unopened struct {
	name string
	seq  uint64
}

// look finds out which root to go on from (DESIGN section 9): the one on the store, a newer one of the same line if
// that one was set back or is the older part of a copy, or an older one if what the newer ones need is not there. Roots
// that are on another line are forks.
func (f *FS) look(ctx context.Context) (*survey, error) {
	data, err := readRoot(ctx, f.store, f.opts.RootName)
	if err != nil {
		return nil, err
	}
	f.rootData = data
	root, err := f.openRoot(data)
	if err != nil {
		return nil, err
	}
	own := &foundRoot{name: blockcrypt.RootName, data: data, root: root}
	s := &survey{own: own, chosen: own, disk: data, seq: root.Seq, fold: root.LastFold}
	if f.opts.RootName != "" {
		own.name = f.opts.RootName
		if err := f.findRoots(ctx, s); err != nil {
			return nil, err
		}
		s.older = slices.ContainsFunc(s.seen, func(r *foundRoot) bool { return covers(r, own) })
		return s, nil
	}
	identity, err := f.store.Identity(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up the store's identity: %w", err)
	}
	s.same = bytes.Equal(identity, root.Identity)
	if err := f.findRoots(ctx, s); err != nil {
		return nil, err
	}
	if err := f.choose(ctx, s); err != nil {
		return nil, err
	}
	return s, nil
}

// keysMoved reports whether another machine has changed the keys since the keys in hand were opened: what is done with
// these would undo that. Where only one can open the vault for writing it has looked at the keys after it got the lock.
func (f *FS) keysMoved(p *blockcrypt.RootPrefix) bool {
	_, shared := f.opts.Store.(remote.Shared)
	if !shared || f.opts.RootName != "" || p.KeyFile.Hash == blockcrypt.Sum(f.keyring().Bytes()) {
		return false
	}
	return !f.readOnly || p.Epoch > f.keyring().Newest() // else what is read needs no newer keys
}

func (f *FS) openRoot(data []byte) (*blockcrypt.Root, error) {
	p, err := blockcrypt.ParseRootPrefix(data)
	if err != nil {
		return nil, fmt.Errorf("read root: %w", versionOr(err))
	}
	if f.keysMoved(&p) {
		return nil, errKeysMoved
	}
	if f.opts.RootName == "" && p.Epoch != f.keyring().Newest() {
		return nil, fmt.Errorf("open root: %w: sealed under another key epoch than the newest", ErrDamaged)
	}
	root, err := f.vault.OpenRoot(f.keyring(), data)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", versionOr(err))
	}
	return root, nil
}

// findRoots reads the other roots on the store: copies in roots/, and those that a sync tool has left under a name of
// its own because it found two.
func (f *FS) findRoots(ctx context.Context, s *survey) error {
	var names []string
	err := f.store.List(ctx, "root", func(i remote.Info) error {
		n, err := blockcrypt.ParseName(i.Name)
		switch {
		case err != nil:
			// No sync tool names a root so that it would harm who reads of it.
			if !strings.Contains(i.Name, "/") && !strings.ContainsFunc(i.Name, func(r rune) bool { return !strconv.IsPrint(r) }) {
				names = append(names, i.Name)
			}
		case n.Kind == blockcrypt.KindOldRoot:
			raise(&s.seq, n.Seq, s.own.root.Seq)
			names = append(names, i.Name)
		case f.opts.RootName != "":
			names = append(names, i.Name)
		}
		return nil
	})
	if err == nil {
		err = f.store.List(ctx, "folds/", func(i remote.Info) error {
			if n, err := blockcrypt.ParseName(i.Name); err == nil {
				raise(&s.fold, n.Seq, s.own.root.LastFold)
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("look for other roots: %w", err)
	}
	slices.Sort(names)
	have := map[blockcrypt.Hash]bool{blockcrypt.Sum(s.own.data): true}
	for _, name := range names {
		data, err := f.store.Get(ctx, name, blockcrypt.MaxRoot)
		if errors.Is(err, remote.ErrNotExist) {
			continue
		}
		if err != nil && !errors.Is(err, remote.ErrNotObject) {
			return fmt.Errorf("read %s: %w", name, err)
		}
		hash := blockcrypt.Sum(data)
		if have[hash] {
			continue
		}
		var root *blockcrypt.Root
		if err == nil {
			root, err = f.vault.OpenRoot(f.keyring(), data)
		}
		if err == nil {
			have[hash] = true
			s.seen = append(s.seen, &foundRoot{name: name, data: data, root: root})
			raise(&s.seq, root.Seq, s.own.root.Seq)
			continue
		}
		if p, perr := blockcrypt.ParseRootPrefix(data); perr == nil && p.Epoch > f.keyring().Newest() {
			s.locked = append(s.locked, unopened{name, p.Seq})
		} else if n, err := blockcrypt.ParseName(name); err == nil && n.Kind == blockcrypt.KindOldRoot && credible(n.Seq, s.own.root.Seq) {
			s.torn = append(s.torn, unopened{name, n.Seq})
		}
		f.logger.Warn("this is no root of the vault, or is damaged", "object", name, "cause", err)
	}
	return nil
}

// farAhead is by how much a number that nobody vouches for may exceed the one that is known: no copy is so much older than
// the rest of it. Else a name that somebody made up could drive the vault's numbers to their end.
const farAhead = 1 << 32

func credible(n, known uint64) bool { return n <= known+farAhead }

// raise makes *highest at least n, if that is credible beside what is known.
func raise(highest *uint64, n, known uint64) {
	if credible(n, known) {
		*highest = max(*highest, n)
	}
}

// choose picks the newest root of own's line whose tree is complete.
func (f *FS) choose(ctx context.Context, s *survey) error {
	line := []*foundRoot{s.own}
	for _, r := range s.seen {
		// The key epoch of a line never goes back: whoever holds a retired key only writes no newer root.
		if covers(s.own, r) || covers(r, s.own) && r.root.Epoch >= s.own.root.Epoch {
			line = append(line, r)
		}
	}
	slices.SortStableFunc(line, func(a, b *foundRoot) int { return cmp.Compare(b.root.Seq, a.root.Seq) })
	newest := line[0]
	// Of two that continue own apart from each other one is a fork, even if it is the only complete one.
	line = slices.DeleteFunc(line, func(r *foundRoot) bool { return r != newest && !sameLine(r, newest) })
	s.torn = slices.DeleteFunc(s.torn, func(r unopened) bool { return r.seq <= newest.root.Seq })
	complete := newest == s.own && s.same // what is missing here is damage, not an incomplete copy
	if !complete {
		trees, err := f.newCompleteness(ctx)
		if err != nil {
			return err
		}
		s.skipped = line[:slices.Index(line, s.own)] // if none is complete
		for i, r := range line {
			missing, err := trees.missing(ctx, r.root)
			if err != nil {
				return err
			}
			if missing == "" {
				s.chosen, s.skipped, complete = r, line[:i], true
				break
			}
			f.logger.Warn("this moment is not complete", "root", r.name, "time", r.moment(), "missing", missing)
		}
		s.beyond = trees.beyond(s.chosen.root)
	}
	s.older = len(s.skipped) > 0 || len(s.torn) > 0 || !complete
	s.newer = s.chosen != s.own && covers(s.chosen, s.own)
	for _, r := range s.seen {
		if !sameLine(newest, r) || !sameLine(s.chosen, r) {
			s.forks = append(s.forks, r)
		}
	}
	// The key epoch of a line never goes back: of one line, a locked root is newer than all others. It may have come here
	// in a copy; where the vault lies, somebody else has brought it.
	s.forked = len(s.forks) > 0 || len(s.locked) > 0 && s.same ||
		slices.ContainsFunc(s.locked, func(r unopened) bool { return r.seq <= newest.root.Seq })
	if s.forked && !f.readOnly {
		return s.forkError()
	}
	return f.judge(s, newest, complete)
}

// clean reports whether the root was left by a mount that ended properly, on this very store: then there are no orphans.
func (s *survey) clean() bool {
	return s.same && !s.older && !s.newer && s.chosen.writer().Closed
}
