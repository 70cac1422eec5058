package fs

import (
	"context"
	"fmt"
	"maps"
	"math"
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

// writeExtents appends the whole blocks to the file's extent, and to a next one where that is full.
func (c *content) writeExtents(ctx context.Context, s *saved) error {
	f := c.fs
	s.extents, s.runs, s.layer = s.extents[:0], s.runs[:0], math.MaxUint64
	at, blocks := s.at[:s.whole], s.blocks[:s.whole]
	for len(at) > 0 {
		made, err := c.openExtent(ctx)
		if err != nil {
			return err
		}
		x := c.cur
		s.layer = min(s.layer, x.layer)
		if made {
			s.made = append(s.made, x.name)
		}
		n := min(len(at), int(f.limits.extentSlots-x.info.Slots))
		first := x.info.Slots
		if err := f.append(x, at[:n], blocks[:n]); err != nil {
			f.retire(c)
			return err
		}
		// Between append and commit: another's sync that begins before this misses the bytes, and takes x from the set.
		f.noteUnsynced(x)
		f.unsyncedBytes.Add(int64(n) * blockcrypt.ExtentRecordSize)
		s.addRuns(at[:n], x.info.Number, first)
		s.extents = append(s.extents, x.info)
		at, blocks = at[n:], blocks[n:]
	}
	return nil
}

// addRuns adds the runs of blocks that lie one after the other in an extent from a slot on.
func (s *saved) addRuns(at []uint64, number, slot uint32) {
	for i, n := range at {
		if k := len(s.runs) - 1; i > 0 && s.runs[k].Start+s.runs[k].Count == n {
			s.runs[k].Count++
			continue
		}
		s.runs = append(s.runs, blockcrypt.Run{Start: n, Count: 1, Kind: blockcrypt.RunExtent, Extent: number, Slot: slot + uint32(i)})
	}
}

// openExtent sees to it that c.cur can take at least one more block; made reports whether it is new.
func (c *content) openExtent(ctx context.Context) (made bool, err error) {
	f := c.fs
	f.mu.Lock()
	layer, birth := f.layerNo, f.nextFold
	if x := c.cur; x != nil && x.layer == layer && x.info.Slots < f.limits.extentSlots {
		f.mu.Unlock()
		return false, nil
	}
	f.bornFor = max(f.bornFor, birth)
	f.mu.Unlock()
	f.retire(c)
	if err := f.boundUnsynced(); err != nil {
		return false, err
	}
	var key blockcrypt.WrappedDEK
	var number uint32
	err = f.view(ctx, func() error {
		e, err := f.entry(c.ino)
		if err != nil {
			return err
		}
		keys, err := f.keysOf(e, f.layers())
		if err != nil {
			return err
		}
		key = keys[len(keys)-1]
		if number, err = f.nextExtent(e); err != nil {
			return err
		}
		f.active.file(c.id).nextExt = number + 1
		return nil
	})
	if err != nil {
		return false, err
	}
	c.cur, err = f.newExtent(ctx, c.id, &key, number, layer, birth)
	return err == nil, err
}

// nextExtent returns a number that no extent of the file has, nor the one that a fold at work may give to its own.
func (f *FS) nextExtent(e *blockcrypt.Entry) (uint32, error) {
	if fd := f.active.files[e.ID]; fd != nil && fd.nextExt > 0 {
		return fd.nextExt, nil
	}
	hd, err := f.headerOf(e)
	if err != nil {
		return 0, err
	}
	next := uint32(1)
	if hd != nil {
		next = max(next, hd.head.NextExt)
	}
	if f.frozen != nil {
		if fd := f.frozen.files[e.ID]; fd != nil {
			next = max(next, fd.nextExt) + 1
		}
	}
	return next, nil
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

// renewKey gives the file a new data key if its newest one was made in an older key epoch than the newest: who was
// removed from the vault since may know that one, and shall not read what is written from now on. A file that has most
// data keys gets none. flushMu is held.
func (c *content) renewKey(ctx context.Context, u urgency, most int) error {
	f := c.fs
	epoch := f.keyring().Newest()
	var last blockcrypt.WrappedDEK
	var count int
	err := f.view(ctx, func() error {
		e, err := f.entry(c.ino)
		if err != nil {
			return err
		}
		keys, err := f.keysOf(e, f.layers())
		if err == nil {
			last, count = keys[len(keys)-1], len(keys)
		}
		return err
	})
	if err != nil || last.Born >= epoch {
		return err
	}
	if count >= most {
		return fmt.Errorf("%w: %s has data keys of %d key epochs, which is the most: `envfs key reencrypt` seals it under one", ErrNoSpace, label(c.id), count)
	}
	return c.addKey(ctx, u, last)
}

// maxKeys is up to how many data keys a file gets by being written to: one less than a header holds, so that it can be
// sealed anew.
const maxKeys = blockcrypt.MaxDEKs - 1

// addKey gives the file a new data key after its last one. flushMu is held, so that nobody else does.
func (c *content) addKey(ctx context.Context, u urgency, last blockcrypt.WrappedDEK) error {
	f := c.fs
	key, err := f.newDEK(c.id, last.Number+1)
	if err != nil {
		return err
	}
	f.retire(c)
	return f.apply(ctx, u, opRoom, func() error {
		e, err := f.editable(c.ino)
		if err != nil {
			return err
		}
		keys, err := f.keysOf(e, f.layers())
		if err != nil {
			return err
		}
		f.logFile(journal.Delta{Kind: journal.SetKeys, ID: c.id, Keys: append(slices.Clone(keys), key)})
		f.save(c.ino, e) // a fold looks at a file's content when it comes by its entry
		return nil
	})
}

// newDEK makes and wraps a data key; the key itself is forgotten at once.
func (f *FS) newDEK(id blockcrypt.ID, number uint32) (w blockcrypt.WrappedDEK, err error) {
	epoch := f.keyring().Newest()
	kek, err := f.keyring().KEK(epoch)
	if err != nil {
		return w, fmt.Errorf("make a data key: %w", err)
	}
	dek, w, err := f.vault.NewDEK(f.rand, kek, epoch, id, number)
	clear(dek[:])
	if err != nil {
		return w, fmt.Errorf("make a data key: %w", err)
	}
	return w, nil
}
