package filemap

import (
	"sort"

	"envfs/blockcrypt"
)

// maxMissing bounds how many missing pages one lookup names.
const maxMissing = 16

// Base is the map and the extent table of a file as its header and its pages on the store say. It never changes and may
// be used by many at once.
type Base struct {
	runs      []blockcrypt.Run
	top       blockcrypt.PageRef
	height    uint8
	extents   []blockcrypt.ExtentInfo
	extTop    blockcrypt.PageRef
	extHeight uint8
}

// NewBase returns the base that h describes; it keeps h's slices, which must not change any more. A header that
// contradicts itself gives an error that wraps [blockcrypt.ErrDamaged].
func NewBase(h *blockcrypt.Header) (*Base, error) {
	b := &Base{
		runs: h.Runs, top: h.MapTop, height: h.MapHeight,
		extents: h.Extents, extTop: h.ExtTop, extHeight: h.ExtHeight,
	}
	if err := checkTop(RunPage, b.top, b.height, len(b.runs)); err != nil {
		return nil, err
	}
	if err := checkTop(ExtentPage, b.extTop, b.extHeight, len(b.extents)); err != nil {
		return nil, err
	}
	if err := checkRuns(b.runs, 0, MaxBlocks); err != nil {
		return nil, err
	}
	for _, r := range b.runs {
		if r.Kind == blockcrypt.RunHeader && uint64(r.Slot)+r.Count > uint64(len(h.InlineLen)) {
			return nil, damaged("block %d is inline block %d of %d", r.Start, r.Slot, len(h.InlineLen))
		}
	}
	if err := checkExtents(b.extents, 0, uint64(h.NextExt)); err != nil {
		return nil, err
	}
	return b, nil
}

// checkTop checks how a header roots one of its trees: nothing beside a top, no height without one.
func checkTop(kind PageKind, top blockcrypt.PageRef, height uint8, inHeader int) error {
	switch {
	case top.IsZero() && height != 0:
		return damaged("map of height %d without a page", height)
	case !top.IsZero() && inHeader != 0:
		return damaged("map both in the header and in pages")
	case height > kind.maxHeight():
		return damaged("map of height %d", height)
	}
	return nil
}

// Lookup calls fn for the count blocks from start, in order, in runs clipped to that range; what the map does not name
// is a hole. If pages are needed that the cache does not have, it names some of them (at most 16): fn has then been
// called for a part of the range only, and the caller throws away what it got, loads these pages, and calls again. So
// that this comes to an end the range should be small beside what the cache can hold. An error wraps
// [blockcrypt.ErrDamaged].
func (b *Base) Lookup(start, count uint64, pages Cache, fn func(blockcrypt.Run)) (missing []PageKey, err error) {
	w := walker{pages: pages, limit: maxMissing, fn: func(r blockcrypt.Run) bool {
		fn(r)
		return true
	}}
	w.base(b, start, bound(start, count))
	return w.missing, w.err
}

// Extent returns the line of the extent table for an extent; ok is false if there is none. As for Lookup, a page that
// has to be loaded first is named in missing.
func (b *Base) Extent(number uint32, pages Cache) (e blockcrypt.ExtentInfo, ok bool, missing []PageKey, err error) {
	if b == nil {
		return e, false, nil, nil
	}
	list := b.extents
	if !b.extTop.IsZero() {
		leaf, missing, err := b.extentLeaf(uint64(number), pages)
		if err != nil || missing != nil || leaf == nil {
			return e, false, missing, err
		}
		list = leaf.extents
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].Number >= number })
	if i == len(list) || list[i].Number != number {
		return e, false, nil, nil
	}
	return list[i], true, nil, nil
}

// extentLeaf returns the leaf of the extent table for a number, nil if there is none.
func (b *Base) extentLeaf(number uint64, pages Cache) (*Page, []PageKey, error) {
	if number >= ExtentPage.span(b.extHeight) {
		return nil, nil, nil
	}
	key := PageKey{Ref: b.extTop, Kind: ExtentPage, Height: b.extHeight}
	for {
		p, err := lookup(pages, key)
		if err != nil {
			return nil, nil, err
		}
		if p == nil {
			return nil, []PageKey{key}, nil
		}
		if key.Height == 0 {
			return p, nil, nil
		}
		c, ok := p.child(uint32((number - key.First) / ExtentPage.span(key.Height-1)))
		if !ok {
			return nil, nil, nil
		}
		key = p.childKey(c)
	}
}

// child returns the child of a node with some index.
func (p *Page) child(index uint32) (blockcrypt.NodeChild, bool) {
	i := p.childFrom(index)
	if i == len(p.children) || p.children[i].Index != index {
		return blockcrypt.NodeChild{}, false
	}
	return p.children[i], true
}

// childFrom returns the place of the first child with at least some index.
func (p *Page) childFrom(index uint32) int {
	return sort.Search(len(p.children), func(i int) bool { return p.children[i].Index >= index })
}

// childKey returns the key of the node's child c.
func (p *Page) childKey(c blockcrypt.NodeChild) PageKey {
	return PageKey{
		Ref: c.Ref, Kind: p.kind, Height: p.height - 1,
		First: p.first + uint64(c.Index)*p.kind.span(p.height-1),
	}
}

// walker goes over runs in the order of blocks, until fn returns false, an error is found, or limit pages are missing.
type walker struct {
	pages   Cache
	fn      func(blockcrypt.Run) bool
	limit   int
	missing []PageKey
	err     error
}

// base goes over [lo, hi) of b, which may be nil: nothing but a hole. It reports whether to go on.
func (w *walker) base(b *Base, lo, hi uint64) bool {
	switch {
	case lo >= hi:
		return true
	case b == nil:
		return w.fn(hole(lo, hi))
	case b.top.IsZero():
		return w.list(b.runs, lo, hi)
	}
	stop := min(hi, RunPage.span(b.height))
	if lo < stop && !w.page(PageKey{Ref: b.top, Kind: RunPage, Height: b.height}, lo, stop) {
		return false
	}
	lo = max(lo, stop)
	return lo >= hi || w.fn(hole(lo, hi))
}

// list goes over [lo, hi) of a map that is a list of runs.
func (w *walker) list(runs []blockcrypt.Run, lo, hi uint64) bool {
	i := sort.Search(len(runs), func(i int) bool { return end(runs[i]) > lo })
	for ; lo < hi && i < len(runs) && runs[i].Start < hi; i++ {
		if !w.run(runs[i], &lo, hi) {
			return false
		}
	}
	return lo >= hi || w.fn(hole(lo, hi))
}

// run goes over a run and the hole before it, from *lo, which it moves on, to hi.
func (w *walker) run(r blockcrypt.Run, lo *uint64, hi uint64) bool {
	if r.Start > *lo && !w.fn(hole(*lo, r.Start)) {
		return false
	}
	r = clip(r, *lo, hi)
	*lo = end(r)
	return w.fn(r)
}

// page goes over [lo, hi) of the page of that key, which covers it.
func (w *walker) page(key PageKey, lo, hi uint64) bool {
	p, err := lookup(w.pages, key)
	if err != nil {
		w.err = err
		return false
	}
	if p == nil {
		w.missing = append(w.missing, key)
		return len(w.missing) < w.limit
	}
	if key.Height == 0 {
		return w.leaf(p, lo, hi)
	}
	for i := p.childFrom(uint32((lo - p.first) / RunPage.span(p.height-1))); lo < hi && i < len(p.children); i++ {
		child := p.childKey(p.children[i])
		if child.First >= hi {
			break
		}
		if child.First > lo {
			if !w.fn(hole(lo, child.First)) {
				return false
			}
			lo = child.First
		}
		stop := min(hi, child.First+RunPage.span(child.Height))
		if !w.page(child, lo, stop) {
			return false
		}
		lo = stop
	}
	return lo >= hi || w.fn(hole(lo, hi))
}

func (w *walker) leaf(p *Page, lo, hi uint64) bool {
	i := sort.Search(len(p.runs), func(i int) bool { return end(p.runs[i].unpack(p.first)) > lo })
	for ; lo < hi && i < len(p.runs); i++ {
		r := p.runs[i].unpack(p.first)
		if r.Start >= hi {
			break
		}
		if !w.run(r, &lo, hi) {
			return false
		}
	}
	return lo >= hi || w.fn(hole(lo, hi))
}
