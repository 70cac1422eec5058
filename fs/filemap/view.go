package filemap

import (
	"envfs/blockcrypt"
)

// View is the map of a file as its layers together say: each delta hides those after it, and all of them the base.
type View struct {
	Over  []*Delta // the newest first; nil ones say nothing
	Base  *Base    // nil: holes only
	Pages Cache    // for the base's pages
}

// Resolve appends to dst where the count blocks from start lie: runs in order, without a gap, each as long as can be,
// holes included. Pages that are missing are named as by [Base.Lookup]; the runs are then worth nothing.
func (v View) Resolve(dst []blockcrypt.Run, start, count uint64) (runs []blockcrypt.Run, missing []PageKey, err error) {
	n := len(dst)
	w := walker{pages: v.Pages, limit: maxMissing, fn: func(r blockcrypt.Run) bool {
		if len(dst) == n {
			dst = append(dst, r)
		} else {
			dst = appendRun(dst, r)
		}
		return true
	}}
	w.view(v.Over, v.Base, start, bound(start, count))
	return dst, w.missing, w.err
}

// view goes over [lo, hi) of the layers and the base below them.
func (w *walker) view(over []*Delta, base *Base, lo, hi uint64) bool {
	if len(over) == 0 {
		return w.base(base, lo, hi)
	}
	return over[0].walk(lo, hi, func(r blockcrypt.Run, known bool) bool {
		if known {
			return w.fn(r)
		}
		return w.view(over[1:], base, r.Start, end(r))
	})
}

// Data returns the first byte at or after offset that lies in a block which is not a hole, as SEEK_DATA does for a file
// of size bytes; ok is false (ENXIO) if there is none.
func (v View) Data(offset, size uint64) (at uint64, ok bool, missing []PageKey, err error) {
	return v.seek(offset, size, true)
}

// Hole returns the first byte at or after offset that lies in a hole, as SEEK_HOLE does for a file of size bytes: its
// end counts as one. ok is false (ENXIO) if offset is not before the end.
func (v View) Hole(offset, size uint64) (at uint64, ok bool, missing []PageKey, err error) {
	at, ok, missing, err = v.seek(offset, size, false)
	if !ok && offset < size && missing == nil && err == nil {
		return size, true, nil, nil
	}
	return at, ok, missing, err
}

// seek returns the first byte at or after offset, and before size, in a block that holds data or in one that does not.
// It asks for no page behind the answer.
func (v View) seek(offset, size uint64, data bool) (at uint64, ok bool, missing []PageKey, err error) {
	if offset >= size {
		return 0, false, nil, nil
	}
	w := walker{pages: v.Pages, limit: 1, fn: func(r blockcrypt.Run) bool {
		if (r.Kind != blockcrypt.RunHole) == data {
			at, ok = max(offset, r.Start*blockcrypt.BlockSize), true
		}
		return !ok
	}}
	w.view(v.Over, v.Base, offset/blockcrypt.BlockSize, blocks(size))
	if w.missing != nil || w.err != nil {
		return 0, false, w.missing, w.err
	}
	return at, ok, nil, nil
}

// blocks returns how many blocks a file of size bytes has.
func blocks(size uint64) uint64 {
	n := size / blockcrypt.BlockSize
	if size%blockcrypt.BlockSize != 0 {
		n++
	}
	return n
}
