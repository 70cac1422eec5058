package blockcrypt

import (
	"errors"
	"fmt"
)

// Limits of maps and extent tables.
const (
	MaxNodeChildren = 256     // children of a node page
	MaxBlocks       = 1 << 52 // blocks of one file
	MaxMapHeight    = 8       // of a tree of pages: more than any file needs
)

// The first item of a page's body tells what page it is.
const (
	pageRuns    = 1
	pageExtents = 2
	pageNode    = 3
)

// NodeChild is one line of a node page: its Index-th child.
type NodeChild struct {
	Index uint32 // 0 to MaxNodeChildren-1
	Ref   PageRef
}

// EncodeRunPage returns the body of a leaf page of a block map. first is the first block that the page is about; runs
// are in order, do not overlap, and do not begin before first.
func EncodeRunPage(first uint64, runs []Run) ([]byte, error) {
	b := appendUint(appendUint(appendArray(nil, 3), pageRuns), first)
	b, err := appendRuns(b, first, runs)
	if err != nil {
		return nil, fmt.Errorf("encode map page: %w", err)
	}
	return b, nil
}

// DecodeRunPage is the inverse of [EncodeRunPage].
func DecodeRunPage(body []byte) (first uint64, runs []Run, err error) {
	d := decoder{b: body}
	d.page(pageRuns, 3)
	first = d.uint(MaxBlocks)
	runs = d.runs(first)
	if err := d.end(); err != nil {
		return 0, nil, fmt.Errorf("decode map page: %w", err)
	}
	return first, runs, nil
}

func (d *decoder) page(kind uint8, items int) {
	d.tuple(items)
	if d.uint8() != kind {
		d.fail("page of another kind")
	}
}

var errRuns = errors.New("runs that no map can have")

// runItems is how many numbers a run is stored as.
func runItems(k RunKind) int {
	switch k {
	case RunExtent:
		return 4
	case RunHeader:
		return 3
	}
	return 2
}

// appendRuns appends one flat array of numbers, to keep a page of single blocks under 32 KiB. A run is
// {gap since the end of the run before (since first), count*4+kind}; then of RunExtent {extent's number minus that of the
// last run of this kind, slot}; of RunHeader {slot}.
func appendRuns(b []byte, first uint64, runs []Run) ([]byte, error) {
	items := 0
	for i := range runs {
		items += runItems(runs[i].Kind)
	}
	b = appendArray(b, items)
	extent := uint32(0)
	for i := range runs {
		r := &runs[i]
		if r.Start < first || r.Start > MaxBlocks || r.Count == 0 || r.Count > MaxBlocks-r.Start || r.Kind > RunHeader {
			return nil, errRuns
		}
		b = appendUint(b, r.Start-first)
		b = appendUint(b, r.Count<<2|uint64(r.Kind))
		switch r.Kind {
		case RunExtent:
			if uint64(r.Slot)+r.Count > MaxExtentSlots {
				return nil, errRuns
			}
			b = appendInt(b, int64(r.Extent)-int64(extent))
			b = appendUint(b, uint64(r.Slot))
			extent = r.Extent
		case RunHeader:
			if uint64(r.Slot)+r.Count > MaxInlineBlocks {
				return nil, errRuns
			}
			b = appendUint(b, uint64(r.Slot))
		}
		first = r.Start + r.Count
	}
	return b, nil
}

func (d *decoder) runs(first uint64) []Run {
	items := d.array(1 << 30)
	if items == 0 {
		return nil
	}
	runs := make([]Run, 0, items/4+1)
	extent := int64(0)
	for items > 0 && d.err == nil {
		r := Run{Start: first + d.uint(MaxBlocks)}
		n := d.uint64()
		r.Kind, r.Count = RunKind(n&3), n>>2
		switch r.Kind {
		case RunExtent:
			extent += d.int()
			r.Extent, r.Slot = uint32(extent), d.uint32()
			if extent < 0 || extent > 1<<32-1 || uint64(r.Slot)+r.Count > MaxExtentSlots {
				d.fail("run in an extent")
			}
		case RunHeader:
			r.Slot = d.uint32()
			if uint64(r.Slot)+r.Count > MaxInlineBlocks {
				d.fail("run in a header")
			}
		}
		if items -= runItems(r.Kind); items < 0 || r.Kind > RunHeader || r.Start > MaxBlocks || r.Count == 0 || r.Count > MaxBlocks-r.Start {
			d.fail("run")
		}
		first = r.Start + r.Count
		runs = append(runs, r)
	}
	return runs
}

// extentItems is how many items an extent's line has; maxExtents bounds a table in one page or header.
const (
	extentItems = 10
	maxExtents  = 1 << 16
)

var errExtents = errors.New("extent table not in order")

// EncodeExtentPage returns the body of a leaf page of an extent table. first is the first number that the page is
// about; extents are in order of their numbers, none below first.
func EncodeExtentPage(first uint32, extents []ExtentInfo) ([]byte, error) {
	b := appendUint(appendUint(appendArray(nil, 3), pageExtents), uint64(first))
	b, err := appendExtents(b, first, extents)
	if err != nil {
		return nil, fmt.Errorf("encode extent page: %w", err)
	}
	return b, nil
}

// DecodeExtentPage is the inverse of [EncodeExtentPage].
func DecodeExtentPage(body []byte) (first uint32, extents []ExtentInfo, err error) {
	d := decoder{b: body}
	d.page(pageExtents, 3)
	first = d.uint32()
	extents = d.extents(first)
	if err := d.end(); err != nil {
		return 0, nil, fmt.Errorf("decode extent page: %w", err)
	}
	return first, extents, nil
}

func appendExtents(b []byte, first uint32, extents []ExtentInfo) ([]byte, error) {
	if len(extents) > maxExtents {
		return nil, errExtents
	}
	b = appendArray(b, len(extents))
	next := uint64(first)
	for i := range extents {
		x := &extents[i]
		if uint64(x.Number) < next {
			return nil, errExtents
		}
		next = uint64(x.Number) + 1
		b = appendUint(appendArray(b, extentItems), uint64(x.Number))
		b = appendUint(b, x.Ver.Birth)
		b = appendBytes(appendBytes(b, x.Ver.R[:]), x.Extra[:])
		b = appendBytes(b, x.Generation[:])
		b = appendUint(appendUint(b, uint64(x.DEK)), uint64(x.Slots))
		b = appendUint(appendUint(b, uint64(x.Live)), uint64(x.CRC32C))
		b = appendUint(b, x.Length)
	}
	return b, nil
}

func (d *decoder) extents(first uint32) []ExtentInfo {
	n := d.array(maxExtents)
	if n == 0 {
		return nil
	}
	extents := make([]ExtentInfo, 0, min(n, len(d.b)/50+1)) // a line is never shorter
	next := uint64(first)
	for ; n > 0 && d.err == nil; n-- {
		var x ExtentInfo
		d.tuple(extentItems)
		x.Number = d.uint32()
		x.Ver.Birth = d.uint64()
		d.fixed(x.Ver.R[:])
		d.fixed(x.Extra[:])
		d.fixed(x.Generation[:])
		x.DEK, x.Slots, x.Live, x.CRC32C = d.uint32(), d.uint32(), d.uint32(), d.uint32()
		x.Length = d.uint64()
		if uint64(x.Number) < next {
			d.fail(errExtents.Error())
		}
		next = uint64(x.Number) + 1
		extents = append(extents, x)
	}
	return extents
}

// EncodeNodePage returns the body of a node page. height is 1 above leaves; first is the first block or extent number
// that the page is about; children are in order of their indexes, and those that do not exist are left out.
func EncodeNodePage(height uint8, first uint64, children []NodeChild) ([]byte, error) {
	if height == 0 || height > MaxMapHeight || first > MaxBlocks || len(children) > MaxNodeChildren {
		return nil, errors.New("encode node page: height, first or children out of range")
	}
	b := appendUint(appendArray(nil, 4), pageNode)
	b = appendUint(appendUint(b, uint64(height)), first)
	b = appendArray(b, len(children))
	next := uint32(0)
	for i := range children {
		c := &children[i]
		if c.Index < next || c.Index >= MaxNodeChildren || c.Ref.IsZero() {
			return nil, errors.New("encode node page: children not in order")
		}
		next = c.Index + 1
		b = appendUint(appendArray(b, 2), uint64(c.Index))
		b = appendPageRef(b, &c.Ref)
	}
	return b, nil
}

// DecodeNodePage is the inverse of [EncodeNodePage].
func DecodeNodePage(body []byte) (height uint8, first uint64, children []NodeChild, err error) {
	d := decoder{b: body}
	d.page(pageNode, 4)
	height = d.uint8()
	first = d.uint(MaxBlocks)
	n := d.array(MaxNodeChildren)
	children = make([]NodeChild, 0, n)
	next := uint32(0)
	for ; n > 0 && d.err == nil; n-- {
		d.tuple(2)
		c := NodeChild{Index: uint32(d.uint(MaxNodeChildren - 1))}
		c.Ref = d.pageRef()
		if c.Index < next || c.Ref.IsZero() {
			d.fail("children not in order")
		}
		next = c.Index + 1
		children = append(children, c)
	}
	if height == 0 || height > MaxMapHeight {
		d.fail("height")
	}
	if err := d.end(); err != nil {
		return 0, 0, nil, fmt.Errorf("decode node page: %w", err)
	}
	return height, first, children, nil
}
