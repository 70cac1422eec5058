package fs

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
)

// Cookies of the two names that every directory has; those of others are the hashes that order them, so that a name
// that stays is listed exactly once whatever happens meanwhile.
const (
	cookieDot    = 1
	cookieDotDot = 2
)

// listChunk is how many names are gathered at a time.
const listChunk = 256

// ReadDir calls fn for the names of dir from after cookie (0: from the start) in their stable order, first "." and
// "..", until fn returns false; that name was then not taken.
func (f *FS) ReadDir(ctx context.Context, dir *Inode, cookie uint64, fn func(DirEntry) bool) error {
	return f.readDir(ctx, dir, cookie, func(d *dirScan, item dirent) (bool, error) {
		typ := item.entry.Type
		if typ == blockcrypt.TypeLinkRef {
			typ = item.entry.Target
		}
		return fn(DirEntry{Name: item.name, Ino: inoOf(item.entry.ID), Type: typ, Cookie: d.cookie}), nil
	}, fn)
}

// ReadDirPlus is ReadDir with the inode and attributes of each name but "." and ".." and those of several names of a file
// whose entry is damaged. The inode carries one more reference if fn returned true.
func (f *FS) ReadDirPlus(ctx context.Context, dir *Inode, cookie uint64, fn func(DirEntry, *Inode, Stat) bool) error {
	dot := func(e DirEntry) bool { return fn(e, nil, Stat{}) }
	return f.readDir(ctx, dir, cookie, func(s *dirScan, item dirent) (bool, error) {
		var ino *Inode
		var st Stat
		err := f.view(ctx, func() (err error) {
			// What was gathered may have changed since: the name as it is now.
			e, err := f.findHash(s.d, item.h, item.name)
			if err != nil {
				return err
			}
			ino, st, err = f.refEntry(s.d, item.h, e)
			return err
		})
		if err == ErrNotExist {
			return true, nil
		}
		if errors.Is(err, ErrDamaged) { // of the file; its name can be listed
			return fn(DirEntry{Name: item.name, Ino: inoOf(item.entry.ID), Type: item.entry.Target, Cookie: s.cookie}, nil, Stat{}), nil
		}
		if err != nil {
			return false, err
		}
		more := fn(DirEntry{Name: item.name, Ino: ino.Ino(), Type: st.Type, Cookie: s.cookie}, ino, st)
		if !more {
			f.Forget(ino, 1)
		}
		return more, nil
	}, dot)
}

func (f *FS) readDir(ctx context.Context, dir *Inode, cookie uint64, each func(*dirScan, dirent) (bool, error), dot func(DirEntry) bool) error {
	if dir.typ != blockcrypt.TypeDirectory {
		return ErrNotDir
	}
	if cookie < cookieDot && !dot(DirEntry{Name: ".", Ino: dir.Ino(), Type: dir.typ, Cookie: cookieDot}) {
		return nil
	}
	if cookie < cookieDotDot && !dot(DirEntry{Name: "..", Ino: f.parentIno(dir), Type: dir.typ, Cookie: cookieDotDot}) {
		return nil
	}
	s := &dirScan{next: max(cookie, cookieDotDot) + 1}
	for !s.done {
		err := f.view(ctx, func() (err error) {
			if s.d, err = dir.asDir(); err != nil {
				return err
			}
			return s.gather(f)
		})
		if err == ErrNotExist { // removed: lists as empty
			return nil
		}
		if err != nil {
			return fmt.Errorf("list directory: %w", err)
		}
		f.listed(s.items)
		for i, item := range s.items {
			s.cookie = cookieOf(s.items, i)
			more, err := each(s, item)
			if err != nil || !more {
				return err
			}
		}
	}
	return nil
}

func (f *FS) parentIno(dir *Inode) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if dir.self == nil || dir.self.parent == nil || dir.self.parent.parent == nil {
		return dir.Ino()
	}
	return inoOf(dir.self.parent.id)
}

// dirScan goes through the names of a directory in the order of their hashes, merging the layers and the base.
type dirScan struct {
	d     *dir
	next  uint64 // hash to go on from
	items []dirent
	done  bool

	cookie uint64 // of the item in hand
}

// cookieOf returns the cookie of an item: where a listing goes on after it. Two names of one hash are as good as
// impossible; should a reply end between them, the first is listed once more rather than the second not at all.
func cookieOf(items []dirent, i int) uint64 {
	h := items[i].h
	if i+1 < len(items) && items[i+1].h == h {
		return h - 1
	}
	return h
}

// gather fills items with the names from next on, and moves next behind them. FS.mu is held.
func (s *dirScan) gather(f *FS) error {
	s.items = s.items[:0]
	var sources [][]dirent // newest first; each sorted
	limit := ^uint64(0)    // all sources are complete below this hash
	for _, l := range f.layers() {
		dd := l.dirs[s.d.id]
		if dd == nil {
			continue
		}
		var got []dirent
		dd.names.AscendGreaterOrEqual(dirent{h: s.next}, func(item dirent) bool {
			if len(got) >= listChunk && item.h != got[len(got)-1].h {
				limit = min(limit, item.h)
				return false
			}
			got = append(got, item)
			return true
		})
		sources = append(sources, got)
	}
	base, end, err := s.gatherBase(f)
	if err != nil {
		return err
	}
	limit = min(limit, end)
	s.merge(append(sources, base), limit)
	s.next, s.done = limit, limit == ^uint64(0)
	return nil
}

// gatherBase returns names of the base from next on, and the hash below which they are all.
func (s *dirScan) gatherBase(f *FS) ([]dirent, uint64, error) {
	end := ^uint64(0)
	ix, err := f.baseIndex(s.d)
	if ix == nil || err != nil {
		return nil, end, err
	}
	sh := ix.Leaf
	if sh == nil {
		i := max(shardOf(ix.Shards, s.next), 0)
		if i+1 < len(ix.Shards) {
			end = ix.Shards[i+1].From
		}
		if sh, err = f.shard(s.d.id, ix.Shards[i].Ref); err != nil {
			return nil, end, err
		}
	}
	var got []dirent
	for i := sh.Search(s.next); i < sh.Len(); i++ {
		if h := sh.HashAt(i); len(got) >= listChunk && h != got[len(got)-1].h {
			return got, min(end, h), nil
		}
		e, err := sh.Entry(i)
		if err != nil {
			return nil, end, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		got = append(got, dirent{h: sh.HashAt(i), name: e.Name, entry: &e})
	}
	return got, end, nil
}

// merge puts the names below limit in order; of equal names the newest source's counts, tombstones hide.
func (s *dirScan) merge(sources [][]dirent, limit uint64) {
	for {
		var first *dirent
		for _, src := range sources {
			if len(src) > 0 && src[0].h < limit && (first == nil || direntLess(src[0], *first)) {
				first = &src[0]
			}
		}
		if first == nil {
			return
		}
		item := *first
		for i, src := range sources {
			if len(src) > 0 && !direntLess(item, src[0]) {
				sources[i] = src[1:]
			}
		}
		if item.entry != nil {
			s.items = append(s.items, item)
		}
	}
}
