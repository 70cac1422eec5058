package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"envfs/blockcrypt"
)

// reopenCache is how many bytes of decoded objects the opening of another moment keeps, beside those of the mount.
const reopenCache = 16 << 20

// reopen opens the moment that root names beside the one that is shown, and puts it in its place. follower.mu is held.
func (f *FS) reopen(ctx context.Context) error {
	next, err := f.beside(ctx)
	if err != nil {
		return err
	}
	if err := f.continues(next.root); err != nil {
		return err
	}
	if next.older != "" && f.older == "" {
		return fmt.Errorf("%w: %s", ErrIncomplete, next.older)
	}
	m := &moving{f: f, next: next, at: make(map[blockcrypt.ID]spot), entries: make(map[blockcrypt.ID]*blockcrypt.Entry)}
	m.findMoved()
	for {
		files := m.unplaced()
		slices.SortFunc(files, func(a, b known) int { return bytes.Compare(a.spot.in[:], b.spot.in[:]) }) // so that their objects are loaded once
		for i := range files {
			if err := m.place(ctx, &files[i]); err != nil {
				return err
			}
		}
		if m.finish() {
			return nil
		}
	}
}

// beside opens the moment that root names, on the same store.
func (f *FS) beside(ctx context.Context) (*FS, error) {
	o := f.opts
	o.Limits.Cache = reopenCache
	next := newFS(o)
	next.follower = newFollower(f.clock.Now())
	next.keys.Store(f.keyring())
	next.vault, next.since = f.vault, f.since
	return next, next.open(ctx)
}

// moving puts one moment in the place of another. The inodes stay, and the directories that both have.
type moving struct {
	f, next *FS
	at      map[blockcrypt.ID]spot              // where the entries of the files that f knows lie in next
	entries map[blockcrypt.ID]*blockcrypt.Entry // what those say; nil: the file is gone
	last    map[blockcrypt.ID]*blockcrypt.Entry // what f says of those that are gone and open
	asked   map[blockcrypt.ID]bool              // those of which last was asked
	moved   map[blockcrypt.ID]spot              // what next's journal has placed
}

// spot is where an entry lies.
type spot struct {
	in blockcrypt.ID
	h  uint64
}

// known is what is to be found again of an inode.
type known struct {
	id    blockcrypt.ID
	spot  spot
	above []level // directories that its entry lies below, the nearest first
	open  bool
	ino   *Inode
}

// level is a directory as its parent knows it.
type level struct {
	id     blockcrypt.ID
	parent blockcrypt.ID
	h      uint64
	name   string
}

// findMoved notes where the journal behind next's tree has put files.
func (m *moving) findMoved() {
	m.moved, m.last, m.asked = make(map[blockcrypt.ID]spot), make(map[blockcrypt.ID]*blockcrypt.Entry), make(map[blockcrypt.ID]bool)
	for id, dd := range m.next.active.dirs {
		dd.names.Ascend(func(item dirent) bool {
			if e := item.entry; e != nil && e.Type != blockcrypt.TypeLinkRef {
				m.moved[e.ID] = spot{id, item.h}
			}
			return true
		})
	}
}

// unplaced returns the inodes that have not been looked for.
func (m *moving) unplaced() (files []known) {
	f := m.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, ino := range f.inodes {
		if _, done := m.entries[id]; done {
			continue
		}
		k := known{id: id, spot: spot{ino.in.id, ino.h}, open: ino.content != nil && ino.ghost == nil, ino: ino}
		for d := ino.in; d.parent != nil; d = d.parent {
			k.above = append(k.above, level{d.id, d.parent.id, d.h, d.name})
		}
		files = append(files, k)
	}
	return files
}

// place looks for a file in next: where it was, or where the journal has put it since. A file that was moved before next's
// last fold is taken for gone until it is looked up by its new name.
func (m *moving) place(ctx context.Context, k *known) error {
	for i := len(k.above) - 1; i >= 0; i-- {
		if err := m.placeDir(ctx, &k.above[i]); err != nil {
			return err
		}
	}
	places := []spot{k.spot}
	if s, ok := m.moved[k.id]; ok {
		places = []spot{s}
	}
	for _, s := range places {
		var found *blockcrypt.Entry
		err := m.next.view(ctx, func() (err error) {
			in := m.next.dirs[s.in]
			if in == nil {
				return ErrStale
			}
			if found, err = m.next.findID(in, s.h, k.id); err != nil {
				return err
			}
			if found.Type == blockcrypt.TypeLinkRef {
				return ErrStale
			}
			if found.Type == blockcrypt.TypeDirectory {
				m.next.refDir(in, s.h, found)
			}
			return nil
		})
		if err == nil {
			m.at[k.id], m.entries[k.id] = s, found
			return nil
		}
		if !errors.Is(err, ErrStale) {
			return fmt.Errorf("look for what is open: %w", err)
		}
	}
	m.entries[k.id] = nil
	if k.open { // whoever has it open goes on reading what it was
		m.asked[k.id] = true
		_ = m.f.view(ctx, func() error {
			e, err := m.f.entry(k.ino)
			if err == nil {
				m.last[k.id] = e
			}
			return err
		})
	}
	return nil
}

// placeDir makes next know a directory, if it lies there where it has lain.
func (m *moving) placeDir(ctx context.Context, l *level) error {
	n := m.next
	err := n.view(ctx, func() error {
		in := n.dirs[l.parent]
		if n.dirs[l.id] != nil || in == nil {
			return nil
		}
		e, err := n.findID(in, l.h, l.id)
		if err != nil {
			return err
		}
		if e.Type == blockcrypt.TypeDirectory {
			n.refDir(in, l.h, e)
		}
		return nil
	})
	if errors.Is(err, ErrStale) {
		return nil // gone, or found by findMoved
	}
	return err
}

// finish makes next's moment that of f, unless there are inodes that have not been looked for.
func (m *moving) finish() bool {
	f, n := m.f, m.next
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, ino := range f.inodes {
		e, done := m.entries[id]
		if done && e == nil && ino.content != nil && ino.ghost == nil && !m.asked[id] { // it was opened since
			delete(m.entries, id)
			done = false
		}
		if !done {
			return false
		}
	}
	old := f.active
	m.adoptDirs()
	for id, ino := range f.inodes {
		e := m.entries[id]
		if e == nil {
			m.part(ino, old)
			continue
		}
		s := m.at[id]
		ino.in, ino.h, ino.ghost, ino.past = f.dirs[s.in], s.h, nil, nil
		if ino.self != nil {
			ino.self = f.dirs[id]
		}
		f.renew(ino, e)
	}
	f.countRefs(n.active)
	f.setLayers(n.active, nil)
	f.layerNo++
	f.root, f.rootData, f.runs, f.nextFold = n.root, n.rootData, n.runs, n.nextFold
	f.older, f.journalDamage = n.older, n.journalDamage
	f.follower.end, f.follower.replayer = n.follower.end, n.follower.replayer
	f.follower.replayer.f = f
	return true
}

// adoptDirs makes the directories of next those of f. Where f knows one, that stays what it is, with what next says of it:
// whoever is looking at it goes on. FS.mu is held.
func (m *moving) adoptDirs() {
	f, n := m.f, m.next
	same := func(d *dir) *dir {
		if d == nil {
			return nil
		}
		if old := f.dirs[d.id]; old != nil {
			return old
		}
		return d
	}
	dirs := make(map[blockcrypt.ID]*dir, len(n.dirs))
	for id, d := range n.dirs {
		now := same(d)
		dirs[id] = now
		if now != d {
			now.h, now.name, now.salt, now.index, now.stored = d.h, d.name, d.salt, d.index, d.stored
		}
		now.parent = same(d.parent)
	}
	for _, dd := range n.active.dirs {
		dd.dir = same(dd.dir)
	}
	f.super, f.links, f.nameless = same(n.super), same(n.links), same(n.nameless)
	for id, d := range f.dirs {
		if dirs[id] == nil { // gone: it has no names any more
			d.index, d.stored = blockcrypt.Ref{}, 0
		}
	}
	f.dirs = dirs
}

// part leaves a file that is gone to those who have it open. FS.mu is held.
func (m *moving) part(ino *Inode, old *layer) {
	if last := m.last[ino.id]; last != nil {
		e := *last
		e.Attr.Nlink = 0
		ino.ghost = &e
	}
	if ino.ghost != nil && ino.past == nil {
		past := newLayer()
		if fd := old.files[ino.id]; fd != nil {
			past.files[ino.id] = fd
		}
		ino.past = []*layer{past}
	}
}

// countRefs counts anew what refers to directories, with the layer that is to be shown, and forgets those that nothing
// refers to. FS.mu is held.
func (f *FS) countRefs(l *layer) {
	all := make(map[*dir]bool)
	meet := func(d *dir) {
		for ; d != nil && !all[d]; d = d.parent {
			all[d] = true
			d.refs = 0
		}
	}
	for _, d := range f.dirs {
		meet(d)
	}
	for _, ino := range f.inodes {
		meet(ino.in)
		meet(ino.self)
	}
	for d := range all {
		if d.parent != nil {
			d.parent.refs++
		}
	}
	for _, d := range []*dir{f.super, f.links, f.nameless, f.top.self} { // as adopt has them
		d.refs++
	}
	for _, ino := range f.inodes {
		ino.in.refs++
		if ino.self != nil {
			ino.self.refs++
		}
	}
	for _, dd := range l.dirs {
		dd.dir.refs++
	}
	var unused []*dir
	for d := range all {
		if d.refs == 0 {
			unused = append(unused, d)
		}
	}
	for _, d := range unused { // and with them those above that nothing else refers to
		d.refs = 1
		f.unrefDir(d)
	}
}
