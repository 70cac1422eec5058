package fs

import (
	"context"
	"maps"
	"slices"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
	"envfs/fs/journal"
)

// flushMode tells what a flush is for.
type flushMode int

const (
	flushClose flushMode = iota // whole blocks go to extents
	flushSync                   // a little goes inline, so that an fsync costs one fdatasync
)

// Up to so many bytes go inline.
const (
	inlineClose = 16 << 10
	inlineSync  = 64 << 10
)

// saved is what one flush of a file carries.
type saved struct {
	size    uint64
	mtime   blockcrypt.Time
	cut     uint64
	at      []uint64 // blocks, ascending
	blocks  []*block
	whole   int // the first so many go to extents, the others inline
	extents []blockcrypt.ExtentInfo
	runs    []blockcrypt.Run // of the blocks in extents
	made    []string         // names of extents that were made for this and that no batch names yet
	layer   uint64           // the oldest of the layers in which these extents were begun

	moves []blockcrypt.Run // not nil: nothing is written, the blocks at are moved from here; all of them are whole
}

// flush brings what is dirty into the journal: when it returns nil, that survives the end of this process. After an
// error all is dirty still.
func (c *content) flush(ctx context.Context, mode flushMode, u urgency) error {
	c.flushMu.Lock()
	defer c.flushMu.Unlock()
	defer c.fs.keepGrowing(c)
	if c.gone() {
		c.discardLocked()
		return nil
	}
	defer c.settle()
	s := c.begin()
	if s == nil {
		return nil
	}
	s.plan(mode, c.fs.limits.smallFile)
	err := c.save(ctx, s, u)
	c.end(err)
	if err != nil {
		return c.wrap("save", err)
	}
	return nil
}

// gone reports whether the file has lost its last name and nobody has it open: what is dirty then has no reader.
func (c *content) gone() bool {
	c.fs.mu.Lock()
	defer c.fs.mu.Unlock()
	return c.ino.ghost != nil
}

// settle takes c out of what is to be flushed if all is in the journal; not before, because who flushes everything must
// wait for a flush that is at work.
func (c *content) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed || len(c.dirty) > 0 {
		c.fs.noteDirty(c)
	} else {
		c.fs.forgetDirty(c)
	}
}

// begin moves what is dirty to saving; nil if nothing is.
func (c *content) begin() *saved {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.changed && len(c.dirty) == 0 {
		return nil
	}
	s := &saved{size: c.size, mtime: c.mtime, cut: c.cut}
	s.at = slices.Sorted(maps.Keys(c.dirty))
	for _, n := range s.at {
		s.blocks = append(s.blocks, c.dirty[n])
	}
	c.saving, c.dirty = c.dirty, nil
	c.oldCut, c.cut = c.cut, noCut
	c.saved, c.changed = true, false
	return s
}

// end forgets what was saved, or makes it dirty again.
func (c *content) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved = false
	for n, b := range c.saving {
		if err == nil || c.dirty[n] != nil || n >= c.cut {
			c.fs.blocks.Put(b)
			c.fs.dirtyBytes.Add(-blockcrypt.BlockSize)
			continue
		}
		if c.dirty == nil {
			c.dirty = make(map[uint64]*block)
		}
		c.dirty[n] = b
	}
	c.saving = nil
	if err != nil {
		c.changed = true
		c.cut = min(c.cut, c.oldCut)
		if harms(err) {
			c.harm = err
		}
	} else {
		c.refused, c.harm = false, nil
	}
	c.oldCut = noCut
}

// plan decides what goes to extents: whole blocks of what is more than a little. A block that the file's end goes
// through rides in the batch.
func (s *saved) plan(mode flushMode, smallFile uint64) {
	limit := inlineClose
	if mode == flushSync {
		limit = inlineSync
	}
	if s.size <= smallFile || len(s.at)*blockcrypt.BlockSize <= limit {
		return
	}
	s.whole = len(s.at)
	if last := s.at[s.whole-1]; (last+1)*blockcrypt.BlockSize > s.size {
		s.whole--
	}
}

// save writes extents and commits. The layer in which the extents were begun may be frozen meanwhile; what was written
// then does not count, as a fold names extents that do not grow any more, and is written again to new ones.
func (c *content) save(ctx context.Context, s *saved, u urgency) error {
	f := c.fs
	if err := c.renewKey(ctx, u, maxKeys); err != nil {
		return err
	}
	room := s.room()
	for {
		if s.whole > 0 {
			if err := c.writeExtents(ctx, s); err != nil {
				c.forsake(ctx, s)
				return err
			}
		}
		// Not before, as who holds a claim must not wait for one.
		if err := f.claim(ctx, room, u); err != nil {
			c.forsake(ctx, s)
			return err
		}
		again, err := c.commit(ctx, s)
		f.room.unclaim(room)
		c.forsake(ctx, s)
		if again {
			continue
		}
		if err == nil && s.moves == nil {
			f.sparse.earn(len(s.at) * blockcrypt.BlockSize)
		}
		return err
	}
}

// room returns how many bytes of the journal the batch of s takes at most.
func (s *saved) room() int64 {
	const perRun, perExtent = 32, 256
	inline := int64(len(s.at)-s.whole) * (blockcrypt.ExtentRecordSize + perRun)
	return opRoom + inline + int64(s.whole)*(perRun+perExtent/8)
}

// commit records what was saved and appends the batch. again is true if nothing was recorded, because the layer in which
// the extents were begun is frozen.
func (c *content) commit(ctx context.Context, s *saved) (again bool, err error) {
	f := c.fs
	var b *builder
	err = f.view(ctx, func() error {
		// All of them: one that is full already may be older than that which is in use.
		if again = s.whole > 0 && s.layer != f.layerNo; again {
			return nil
		}
		if c.ino.ghost != nil {
			return nil // nobody can read it any more
		}
		e, err := f.editable(c.ino)
		if err != nil {
			return err
		}
		if s.moves != nil {
			if ok, err := f.recordMoves(c, e, s); err != nil || !ok {
				return err
			}
		} else {
			f.record(c, e, s)
		}
		s.made = nil
		b = f.pending
		return nil
	})
	if err != nil || b == nil {
		return again, err
	}
	return false, f.commit(ctx, b)
}

// forsake deletes the extents that were made for s, as no batch names them.
func (c *content) forsake(ctx context.Context, s *saved) {
	if len(s.made) == 0 {
		return
	}
	f := c.fs
	f.retire(c)
	drop := func(ctx context.Context, names []string) error { return f.store.Delete(ctx, names...) }
	if f.shared != nil {
		drop = f.shared.Release // they were never sent, and the shared store may be away
	}
	if err := drop(context.WithoutCancel(ctx), s.made); err != nil {
		f.logger.Warn("extents that nothing names are left behind; the next mount removes them", "cause", err)
	}
	s.made = nil
}

// record puts what was saved into the active layer and the batch. FS.mu is held; nothing can fail.
func (f *FS) record(c *content, e *blockcrypt.Entry, s *saved) {
	for i := range s.extents {
		x := s.extents[i]
		f.logFile(journal.Delta{Kind: journal.SetExtent, ID: c.id, Extent: &x})
	}
	var runs []blockcrypt.Run
	if s.cut != noCut {
		runs = append(runs, blockcrypt.Run{Start: s.cut, Count: filemap.MaxBlocks - s.cut})
	}
	runs = append(runs, s.runs...)
	fd := f.active.file(c.id)
	b := f.pending
	for i := s.whole; i < len(s.at); i++ {
		n := s.at[i]
		index := len(b.batch.Contents)
		data := s.blocks[i][:]
		if end := (n + 1) * blockcrypt.BlockSize; end > s.size {
			data = data[:s.size-n*blockcrypt.BlockSize]
		}
		b.batch.Contents = append(b.batch.Contents, data)
		b.fix = append(b.fix, inlineFix{fd, n, index})
		delete(fd.inline, n)
		runs = append(runs, blockcrypt.Run{Start: n, Count: 1, Kind: blockcrypt.RunJournal, Slot: uint32(index)})
	}
	if len(runs) > 0 {
		f.logFile(journal.Delta{Kind: journal.SetRuns, ID: c.id, Runs: runs})
	}
	e.Attr.Size, e.Attr.Mtime, e.Attr.Ctime = s.size, s.mtime, s.mtime
	f.save(c.ino, e)
}

// logFile records a delta of a file's content in memory and in the batch.
func (f *FS) logFile(d journal.Delta) {
	if d.Kind == journal.SetExtent {
		f.noteExtent(d.ID, d.Extent)
	}
	f.active.apply(&d, nil)
	f.log(d)
}
