package fs

import (
	"context"
	"fmt"

	"envfs/blockcrypt"
)

// resolve says where blocks first to first+count of a file lie.
func (f *FS) resolve(ctx context.Context, c *content, first, count uint64) (pieces []piece, err error) {
	err = f.view(ctx, func() error {
		pieces = pieces[:0]
		e, err := f.entry(c.ino)
		if err != nil {
			return err
		}
		layers := f.layers()
		if c.ino.past != nil {
			layers = c.ino.past
		}
		pieces, err = f.locate(pieces, e, layers, 0, first, count)
		return err
	})
	return pieces, err
}

// locate appends the pieces of a range, newest layer first, from those above on that lie over the base.
func (f *FS) locate(pieces []piece, e *blockcrypt.Entry, layers []*layer, above int, first, count uint64) ([]piece, error) {
	for i, l := range layers[above:] {
		fd := l.files[e.ID]
		if fd == nil {
			continue
		}
		var err error
		fd.runs.Lookup(first, count, func(r blockcrypt.Run, known bool) {
			if err != nil {
				return
			}
			if !known {
				pieces, err = f.locate(pieces, e, layers, above+i+1, r.Start, r.Count)
				return
			}
			var pc piece
			if pc, err = f.complete(e, layers, fd, r); err == nil {
				pieces = append(pieces, pc)
			}
		})
		return pieces, err
	}
	hd, err := f.headerOf(e)
	if err != nil {
		return pieces, err
	}
	if hd == nil {
		return append(pieces, piece{run: blockcrypt.Run{Start: first, Count: count}}), nil
	}
	var inner error
	missing, err := hd.base.Lookup(first, count, pageCache{f}, func(r blockcrypt.Run) {
		if inner != nil {
			return
		}
		var pc piece
		if pc, inner = f.complete(e, layers, nil, r); inner == nil {
			pc.head = hd
			pieces = append(pieces, pc)
		}
	})
	switch {
	case err != nil:
		return pieces, fmt.Errorf("%w: %w", ErrDamaged, err)
	case missing != nil:
		return pieces, mapMiss(e.ID, missing[0])
	}
	return pieces, inner
}

// complete adds to a run what reading it takes.
func (f *FS) complete(e *blockcrypt.Entry, layers []*layer, fd *fileDelta, r blockcrypt.Run) (pc piece, err error) {
	pc.run = r
	var dek uint32
	switch r.Kind {
	case blockcrypt.RunJournal:
		pc.inline = fd.inline[r.Start]
		return pc, nil
	case blockcrypt.RunExtent:
		if pc.ext, err = f.extentInfo(e, layers, r.Extent); err != nil {
			return pc, err
		}
		dek = pc.ext.DEK
	case blockcrypt.RunHeader:
		hd, err := f.headerOf(e)
		if err != nil || hd == nil {
			return pc, err
		}
		dek = hd.head.InlineDEK
	default:
		return pc, nil
	}
	keys, err := f.keysOf(e, layers)
	if err != nil {
		return pc, err
	}
	for i := range keys {
		if keys[i].Number == dek {
			pc.key = &keys[i]
			return pc, nil
		}
	}
	return pc, fmt.Errorf("%w: data key %d is not in the header", ErrDamaged, dek)
}

// keysOf returns a file's wrapped data keys.
func (f *FS) keysOf(e *blockcrypt.Entry, layers []*layer) ([]blockcrypt.WrappedDEK, error) {
	for _, l := range layers {
		if fd := l.files[e.ID]; fd != nil && fd.keys != nil {
			return fd.keys, nil
		}
	}
	hd, err := f.headerOf(e)
	if err != nil {
		return nil, err
	}
	if hd == nil || len(hd.deks) == 0 {
		return nil, fmt.Errorf("%w: %s has no data key", ErrDamaged, label(e.ID))
	}
	return hd.deks, nil
}

// extentInfo returns one line of a file's extent table.
func (f *FS) extentInfo(e *blockcrypt.Entry, layers []*layer, number uint32) (x blockcrypt.ExtentInfo, err error) {
	for _, l := range layers {
		if fd := l.files[e.ID]; fd != nil {
			if x := fd.ext(number); x != nil {
				return *x, nil
			}
		}
	}
	hd, err := f.headerOf(e)
	if err != nil {
		return x, err
	}
	if hd == nil {
		return x, fmt.Errorf("%w: no extent %d", ErrDamaged, number)
	}
	x, ok, missing, err := hd.base.Extent(number, pageCache{f})
	switch {
	case err != nil:
		return x, fmt.Errorf("%w: %w", ErrDamaged, err)
	case missing != nil:
		return x, mapMiss(e.ID, missing[0])
	case !ok:
		return x, fmt.Errorf("%w: no extent %d", ErrDamaged, number)
	}
	return x, nil
}

// pageCache shows the cache to filemap.
type pageCache struct{ f *FS }

// Get returns a decoded map page.
func (p pageCache) Get(ref blockcrypt.PageRef) (any, bool) {
	v := p.f.cache.get(ref.Hash)
	return v, v != nil
}
