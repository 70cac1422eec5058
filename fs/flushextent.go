package fs

import (
	"context"
	"math"

	"envfs/blockcrypt"
)

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
