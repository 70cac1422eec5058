package filemap

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sort"

	"envfs/blockcrypt"
)

// extentEdit is the editor of an extent table.
type extentEdit struct {
	lower   []blockcrypt.ExtentInfo // the table as it was, if it was in the header
	changed []blockcrypt.ExtentInfo // sorted
	live    map[uint32]int64        // blocks won, less blocks lost
	touched []uint32                // sorted: the numbers in changed and live
	wipe    bool                    // every old line has no live block left but for those in live
	maxSize int                     // bound of what may be gathered
	size    int
	extents []blockcrypt.ExtentInfo // gathered

	dead   []blockcrypt.ExtentInfo
	sparse []blockcrypt.ExtentInfo
	added  int // lines more than before
}

func newExtentEdit(in *FoldInput, lower []blockcrypt.ExtentInfo, live map[uint32]int64, wipe bool, maxSize int) *extentEdit {
	e := &extentEdit{lower: lower, changed: in.Changed, live: live, wipe: wipe, maxSize: maxSize}
	e.touched = slices.Collect(maps.Keys(live))
	for i := range in.Changed {
		e.touched = append(e.touched, in.Changed[i].Number)
	}
	slices.Sort(e.touched)
	e.touched = slices.Compact(e.touched)
	return e
}

// between returns the extents of a sorted list with numbers in [lo, hi).
func between(list []blockcrypt.ExtentInfo, lo, hi uint64) []blockcrypt.ExtentInfo {
	i := sort.Search(len(list), func(i int) bool { return uint64(list[i].Number) >= lo })
	j := i + sort.Search(len(list)-i, func(j int) bool { return uint64(list[i+j].Number) >= hi })
	return list[i:j]
}

func (e *extentEdit) touches(lo, hi uint64, there bool) bool {
	if there && e.wipe || len(between(e.lower, lo, hi)) > 0 {
		return true
	}
	i := sort.Search(len(e.touched), func(i int) bool { return uint64(e.touched[i]) >= lo })
	return i < len(e.touched) && uint64(e.touched[i]) < hi
}

// next takes the line with the least number off two lists, that of the table so far and that of what is new. Its Live is
// what the table said so far.
func next(old, fresh *[]blockcrypt.ExtentInfo) (x blockcrypt.ExtentInfo, err error) {
	o, f := *old, *fresh
	if len(f) == 0 || len(o) > 0 && o[0].Number < f[0].Number {
		*old = o[1:]
		return o[0], nil
	}
	x, *fresh = f[0], f[1:]
	x.Live = 0
	if len(o) > 0 && o[0].Number == x.Number {
		*old = o[1:]
		x.Live = o[0].Live
		if x.Ver != o[0].Ver || x.Extra != o[0].Extra || x.Generation != o[0].Generation {
			return x, damaged("extent %d stands for two objects", x.Number)
		}
	}
	return x, nil
}

// apply returns what the table says about numbers in [lo, hi), where old is what it said so far.
func (e *extentEdit) apply(lo, hi uint64, old []blockcrypt.ExtentInfo) ([]blockcrypt.ExtentInfo, error) {
	if old == nil {
		old = between(e.lower, lo, hi)
	}
	fresh := between(e.changed, lo, hi)
	e.added -= len(old)
	out := make([]blockcrypt.ExtentInfo, 0, len(old)+len(fresh))
	found := 0 // numbers in live that have a line
	for len(old)+len(fresh) > 0 {
		x, err := next(&old, &fresh)
		if err != nil {
			return nil, err
		}
		live := int64(x.Live)
		if e.wipe {
			live = 0
		}
		if n, ok := e.live[x.Number]; ok {
			found++
			live += n
		}
		if live < 0 || live > int64(x.Slots) {
			return nil, damaged("extent %d would have %d live blocks of %d", x.Number, live, x.Slots)
		}
		x.Live = uint32(live)
		if live == 0 {
			e.dead = append(e.dead, x)
			continue
		}
		if 2*live < int64(x.Slots) {
			e.sparse = append(e.sparse, x)
		}
		out = append(out, x)
	}
	e.added += len(out)
	return out, e.expect(lo, hi, found)
}

// expect checks that as many of the numbers in live as lie in [lo, hi) were found in the table.
func (e *extentEdit) expect(lo, hi uint64, found int) error {
	i := sort.Search(len(e.touched), func(i int) bool { return uint64(e.touched[i]) >= lo })
	for ; i < len(e.touched) && uint64(e.touched[i]) < hi; i++ {
		if _, ok := e.live[e.touched[i]]; ok {
			found--
		}
	}
	if found != 0 {
		return damaged("the map names extents that the table does not have, from %d on", lo)
	}
	return nil
}

func (e *extentEdit) leaf(first uint64, old *Page) (body []byte, same bool, err error) {
	now, err := e.apply(first, first+1<<extentBits, old.lines())
	if err != nil {
		return nil, false, err
	}
	if old != nil && slices.Equal(old.extents, now) {
		return nil, true, nil
	}
	if len(now) == 0 {
		return nil, false, nil
	}
	body, err = blockcrypt.EncodeExtentPage(uint32(first), now)
	return body, false, err
}

func (p *Page) lines() []blockcrypt.ExtentInfo {
	if p == nil {
		return nil
	}
	return p.extents
}

func (e *extentEdit) gather(first uint64, old *Page) error {
	now, err := e.apply(first, first+1<<extentBits, old.lines())
	if err != nil {
		return err
	}
	return e.keep(now)
}

// keep adds lines to what was gathered.
func (e *extentEdit) keep(lines []blockcrypt.ExtentInfo) error {
	for i := range lines {
		if e.size += extentSize(&lines[i]); e.size > e.maxSize {
			return errLarge
		}
	}
	e.extents = append(e.extents, lines...)
	return nil
}

// foldExtents writes the extent table anew.
func (in *FoldInput) foldExtents(ctx context.Context, base *Base, live map[uint32]int64, wiped bool, out *FoldOutput) error {
	t := &tree{kind: ExtentPage, old: in.Old, load: in.Load, emit: in.Emit}
	old := root{base.extTop, base.extHeight}
	paged := !old.ref.IsZero()
	room := maxInHeader
	if paged {
		room = minInPages
	}
	var reach uint64
	if n := len(in.Changed); n > 0 {
		reach = uint64(in.Changed[n-1].Number) + 1
	}

	e := newExtentEdit(in, base.extents, live, wiped, room)
	t.edit = e
	var err error
	if paged {
		err = t.gather(ctx, old, reach)
	} else {
		var now []blockcrypt.ExtentInfo
		if now, err = e.apply(0, 1<<32, nil); err == nil {
			err = e.keep(now)
		}
	}
	if errors.Is(err, errLarge) {
		e = newExtentEdit(in, base.extents, live, wiped, 0)
		t.edit = e
		if n := len(base.extents); n > 0 {
			reach = max(reach, uint64(base.extents[n-1].Number)+1)
		}
		var top root
		top, err = t.rewrite(ctx, old, reach, 1<<32)
		out.ExtTop, out.ExtHeight = top.ref, top.height
	}
	if err != nil {
		return err
	}
	out.Died = append(out.Died, t.died...)
	out.Extents, out.Dead, out.Sparse, out.ExtentsMore = e.extents, e.dead, e.sparse, e.added
	return nil
}
