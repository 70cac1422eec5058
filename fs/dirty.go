package fs

import (
	"context"
	"slices"
)

// Contents that memory alone knows in part.

// noteDirty remembers that c has something to flush.
func (f *FS) noteDirty(c *content) {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	if f.dirtySet == nil {
		f.dirtySet = make(map[*content]struct{})
	}
	f.dirtySet[c] = struct{}{}
}

func (f *FS) forgetDirty(c *content) {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	delete(f.dirtySet, c)
}

// flushAll flushes every file: what follows in the journal must not survive without what was written before it. After
// ErrNoSpace all is flushed but what did not fit. What was refused already, with an error of close(2) or fsync(2), does
// not count as written: it is tried again, and holds up nobody but who would give its file another name. So it is with
// what cannot be saved because something that its file needs is damaged: close(2) and fsync(2) of that file tell.
func (f *FS) flushAll(ctx context.Context) error {
	all := f.unflushed()
	slices.SortFunc(all, func(a, b *content) int { return slices.Compare(a.id[:], b.id[:]) })
	var full error
	for _, c := range all {
		err := c.flush(ctx, flushClose, ordinary)
		if isFull(err) { // another may fit
			if !c.isRefused() {
				full = err
			}
			continue
		}
		if harms(err) {
			continue
		}
		if err != nil {
			return err
		}
		f.mu.Lock()
		unused := c.opens == 0
		f.mu.Unlock()
		if unused { // it was kept because its last close could not flush it
			f.lastClose(ctx, c)
		}
	}
	return full
}

// unflushed returns the files that have something to flush.
func (f *FS) unflushed() (all []*content) {
	f.dirtyMu.Lock() // which is taken under their locks
	defer f.dirtyMu.Unlock()
	for c := range f.dirtySet {
		all = append(all, c)
	}
	return all
}

// unsavable returns why what was written to some file cannot be saved, nil if there is no such file.
func (f *FS) unsavable() error {
	for _, c := range f.unflushed() {
		if err := c.harmed(); err != nil {
			return err
		}
	}
	return nil
}
