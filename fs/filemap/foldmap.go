package filemap

import (
	"context"
	"errors"

	"envfs/blockcrypt"
)

// runEdit is the editor of a map: it lays a delta over the leaves, cuts what lies beyond the end of the file, and counts
// how many blocks each extent wins and loses.
type runEdit struct {
	lower   []blockcrypt.Run // the map as it was, if it was in the header
	over    *Delta
	limit   uint64           // blocks of the file
	live    map[uint32]int64 // by extent: blocks won, less blocks lost
	maxSize int              // bound of what may be gathered
	size    int              // of what was
	runs    []blockcrypt.Run // gathered
}

func newRunEdit(in *FoldInput, lower []blockcrypt.Run, maxSize int) *runEdit {
	e := &runEdit{lower: lower, over: in.Delta, limit: in.Blocks, live: make(map[uint32]int64), maxSize: maxSize}
	for _, r := range lower {
		e.count(r, -1)
	}
	return e
}

func (e *runEdit) count(r blockcrypt.Run, sign int64) {
	if r.Kind == blockcrypt.RunExtent {
		e.live[r.Extent] += sign * int64(r.Count)
	}
}

func (e *runEdit) touches(lo, hi uint64, there bool) bool {
	if there && (hi > e.limit || e.over.touches(lo, hi)) {
		return true
	}
	// Where there is no page, only what is not a hole makes one.
	if hi = min(hi, e.limit); lo >= hi {
		return false
	}
	w := walker{fn: func(r blockcrypt.Run) bool { return r.Kind == blockcrypt.RunHole }}
	if !w.list(e.lower, lo, hi) {
		return true
	}
	return !e.over.walk(lo, hi, func(r blockcrypt.Run, known bool) bool {
		return !known || r.Kind == blockcrypt.RunHole
	})
}

// apply returns what the map says about [lo, hi), holes left out, where old is the page that said it so far.
func (e *runEdit) apply(lo, hi uint64, old *Page) []blockcrypt.Run {
	var d Delta
	if old != nil {
		for _, l := range old.runs {
			r := l.unpack(old.first)
			e.count(r, -1)
			d.Set(r)
		}
	}
	stop := min(hi, e.limit)
	if lo < stop {
		w := walker{fn: func(r blockcrypt.Run) bool {
			d.Set(r)
			return true
		}}
		if len(e.lower) > 0 {
			w.list(e.lower, lo, stop)
		}
		e.over.walk(lo, stop, func(r blockcrypt.Run, known bool) bool {
			if known {
				d.Set(r)
			}
			return true
		})
	}
	if stop = max(lo, stop); stop < hi {
		d.Set(hole(stop, hi))
	}
	runs := make([]blockcrypt.Run, 0, d.Len())
	d.Runs(func(r blockcrypt.Run) bool {
		if r.Kind != blockcrypt.RunHole {
			e.count(r, +1)
			runs = append(runs, r)
		}
		return true
	})
	return runs
}

func (e *runEdit) leaf(first uint64, old *Page) (body []byte, same bool, err error) {
	runs := e.apply(first, first+LeafBlocks, old)
	if old != nil && sameRuns(old, runs) {
		return nil, true, nil
	}
	if len(runs) == 0 {
		return nil, false, nil
	}
	body, err = blockcrypt.EncodeRunPage(first, runs)
	return body, false, err
}

func sameRuns(p *Page, runs []blockcrypt.Run) bool {
	if len(p.runs) != len(runs) {
		return false
	}
	for i, l := range p.runs {
		if l.unpack(p.first) != runs[i] {
			return false
		}
	}
	return true
}

func (e *runEdit) gather(first uint64, old *Page) error {
	return e.keep(e.apply(first, first+LeafBlocks, old))
}

// keep adds runs to what was gathered.
func (e *runEdit) keep(runs []blockcrypt.Run) error {
	for _, r := range runs {
		var prev blockcrypt.Run
		if n := len(e.runs); n > 0 {
			prev = e.runs[n-1]
			if continues(prev, r) {
				e.runs[n-1].Count += r.Count
				continue
			}
		}
		if e.size += runSize(prev, r); e.size > e.maxSize {
			return errLarge
		}
		e.runs = append(e.runs, r)
	}
	return nil
}

// addition is what a delta adds to a map.
type addition struct {
	runs  int    // that are not holes
	reach uint64 // end of the last of them
	whole bool   // it says something about every block
}

// survey checks the runs of a delta that a fold is about to write, as far as they lie before limit.
func survey(d *Delta, limit uint64) (a addition, err error) {
	a.whole = true
	d.walk(0, limit, func(r blockcrypt.Run, known bool) bool {
		switch {
		case !known:
			a.whole = false
		case r.Kind == blockcrypt.RunHole:
		case r.Kind != blockcrypt.RunExtent && r.Kind != blockcrypt.RunHeader:
			err = errJournal
		case uint64(r.Slot)+r.Count > 1<<32:
			err = damaged("run at %d ends beyond slot 2^32", r.Start)
		default:
			a.runs++
			a.reach = end(r)
		}
		return err == nil
	})
	return a, err
}

var errJournal = errors.New("a block still lies in the journal")

// foldMap writes the map anew and returns how many blocks each extent won or lost. wiped tells that the old map is gone
// altogether and nothing of it was counted.
func (in *FoldInput) foldMap(ctx context.Context, base *Base, out *FoldOutput) (live map[uint32]int64, wiped bool, err error) {
	add, err := survey(in.Delta, in.Blocks)
	if err != nil {
		return nil, false, err
	}
	t := &tree{kind: RunPage, old: in.Old, load: in.Load, emit: in.Emit}
	defer func() { out.Died = append(out.Died, t.died...) }()
	old := root{base.top, base.height}
	if !old.ref.IsZero() && add.whole {
		if err := t.visit(ctx, PageKey{Ref: old.ref, Kind: RunPage, Height: old.height}, nil); err != nil {
			return nil, false, err
		}
		old, wiped = root{}, true
	}

	paged := !old.ref.IsZero()
	room := maxInHeader
	if paged || wiped {
		room = minInPages
	}
	if add.runs <= room/minRunSize {
		e := newRunEdit(in, base.runs, room)
		t.edit = e
		if paged {
			err = t.gather(ctx, old, add.reach)
		} else {
			err = e.keep(e.apply(0, MaxBlocks, nil))
		}
		if err == nil {
			out.Runs = e.runs
			return e.live, wiped, nil
		}
		if !errors.Is(err, errLarge) {
			return nil, false, err
		}
	}
	e := newRunEdit(in, base.runs, 0)
	t.edit = e
	reach := add.reach
	if n := len(base.runs); n > 0 {
		reach = max(reach, min(end(base.runs[n-1]), in.Blocks))
	}
	top, err := t.rewrite(ctx, old, reach, in.Blocks)
	out.MapTop, out.MapHeight = top.ref, top.height
	return e.live, wiped, err
}
