package filemap

import (
	"fmt"
	"unsafe"

	"envfs/blockcrypt"
)

// PageKind tells what a page holds.
type PageKind uint8

// The kinds of pages.
const (
	RunPage    PageKind = 1 // leaf of a map, or a node above such leaves
	ExtentPage PageKind = 2 // leaf of an extent table, or a node above such leaves
)

// PageKey names a page and tells what it must be: where it stands in which tree.
type PageKey struct {
	Ref    blockcrypt.PageRef
	Kind   PageKind
	Height uint8  // 0: a leaf
	First  uint64 // first block, or first extent number, that the page covers
}

// Cache keeps decoded pages: what Get returns is the *Page that [DecodePage] made of the page that ref refers to. It
// must be safe for concurrent use if the maps that it serves are.
type Cache interface {
	Get(ref blockcrypt.PageRef) (page any, ok bool)
}

// lookup returns the page that key names, nil if the cache does not have it.
func lookup(pages Cache, key PageKey) (*Page, error) {
	v, ok := pages.Get(key.Ref)
	if !ok {
		return nil, nil
	}
	if p, ok := v.(*Page); ok && p.is(key) {
		return p, nil
	}
	return nil, damaged("another page stands at %d, height %d", key.First, key.Height)
}

// Page is a decoded page of a map or of an extent table. It never changes and may be shared.
type Page struct {
	kind     PageKind
	height   uint8
	first    uint64
	runs     []leafRun
	extents  []blockcrypt.ExtentInfo
	children []blockcrypt.NodeChild
}

// leafRun is a run of a leaf in 12 bytes: there may be 4,096 of them in each of many cached leaves.
type leafRun struct {
	at     uint16 // first block, relative to the leaf's; inHeader is set for blocks in the header
	count  uint16
	extent uint32
	slot   uint32
}

const inHeader = 1 << 15

// DecodePage decodes the body of the page that key names. The body must have been authenticated; what it says is
// checked all the same, so that no lookup needs to: errors wrap [blockcrypt.ErrDamaged].
func DecodePage(key PageKey, body []byte) (*Page, error) {
	p, err := decodePage(key, body)
	if err != nil {
		return nil, fmt.Errorf("decode map page at %d, height %d: %w", key.First, key.Height, err)
	}
	return p, nil
}

func decodePage(key PageKey, body []byte) (*Page, error) {
	p := &Page{kind: key.Kind, height: key.Height, first: key.First}
	switch {
	case key.Height > 0:
		height, first, children, err := blockcrypt.DecodeNodePage(body)
		if err != nil {
			return nil, err
		}
		if height != key.Height || first != key.First {
			return nil, damaged("it is the node at %d, height %d", first, height)
		}
		p.children = children
		return p, checkChildren(children)
	case key.Kind == RunPage:
		first, runs, err := blockcrypt.DecodeRunPage(body)
		if err != nil {
			return nil, err
		}
		if first != key.First {
			return nil, damaged("it is the leaf at %d", first)
		}
		if err := checkRuns(runs, first, first+LeafBlocks); err != nil {
			return nil, err
		}
		p.runs = pack(runs, first)
		return p, nil
	case key.Kind == ExtentPage:
		first, extents, err := blockcrypt.DecodeExtentPage(body)
		if err != nil {
			return nil, err
		}
		if uint64(first) != key.First {
			return nil, damaged("it is the leaf at %d", first)
		}
		p.extents = extents
		return p, checkExtents(extents, uint64(first), uint64(first)+1<<extentBits)
	}
	return nil, fmt.Errorf("no such kind of page: %d", key.Kind)
}

// encode returns the body of p.
func (p *Page) encode() ([]byte, error) {
	switch {
	case p.height > 0:
		return blockcrypt.EncodeNodePage(p.height, p.first, p.children)
	case p.kind == ExtentPage:
		return blockcrypt.EncodeExtentPage(uint32(p.first), p.extents)
	}
	runs := make([]blockcrypt.Run, len(p.runs))
	for i, l := range p.runs {
		runs[i] = l.unpack(p.first)
	}
	return blockcrypt.EncodeRunPage(p.first, runs)
}

// is reports whether p is the page that key says it is.
func (p *Page) is(key PageKey) bool {
	return p.kind == key.Kind && p.height == key.Height && p.first == key.First
}

// Size returns the memory that p holds, in bytes.
func (p *Page) Size() int {
	return int(unsafe.Sizeof(*p)) +
		cap(p.runs)*int(unsafe.Sizeof(leafRun{})) +
		cap(p.extents)*int(unsafe.Sizeof(blockcrypt.ExtentInfo{})) +
		cap(p.children)*int(unsafe.Sizeof(blockcrypt.NodeChild{}))
}

func pack(runs []blockcrypt.Run, first uint64) []leafRun {
	packed := make([]leafRun, len(runs))
	for i, r := range runs {
		l := leafRun{at: uint16(r.Start - first), count: uint16(r.Count), extent: r.Extent, slot: r.Slot}
		if r.Kind == blockcrypt.RunHeader {
			l.at |= inHeader
		}
		packed[i] = l
	}
	return packed
}

func (l leafRun) unpack(first uint64) blockcrypt.Run {
	kind := blockcrypt.RunExtent
	if l.at&inHeader != 0 {
		kind = blockcrypt.RunHeader
	}
	return blockcrypt.Run{
		Start: first + uint64(l.at&^inHeader), Count: uint64(l.count), Kind: kind, Extent: l.extent, Slot: l.slot,
	}
}

// span returns how many blocks or extent numbers a page of some height covers.
func (k PageKind) span(height uint8) uint64 {
	bits := uint(leafBits)
	if k == ExtentPage {
		bits = extentBits
	}
	return 1 << (bits + nodeBits*uint(height))
}

// maxHeight returns the height of the largest tree.
func (k PageKind) maxHeight() uint8 {
	if k == ExtentPage {
		return maxExtentHeight
	}
	return maxMapHeight
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", blockcrypt.ErrDamaged, fmt.Sprintf(format, args...))
}

// checkRuns checks that runs of a base are in order, in [lo, hi), and of kinds that a base has. Holes are what no run
// covers.
func checkRuns(runs []blockcrypt.Run, lo, hi uint64) error {
	for _, r := range runs {
		if r.Start < lo || r.Start >= hi || r.Count == 0 || r.Count > hi-r.Start {
			return damaged("run of %d blocks at %d is out of place", r.Count, r.Start)
		}
		if r.Kind != blockcrypt.RunExtent && r.Kind != blockcrypt.RunHeader {
			return damaged("run at %d of kind %d", r.Start, r.Kind)
		}
		if uint64(r.Slot)+r.Count > 1<<32 {
			return damaged("run at %d ends beyond slot 2^32", r.Start)
		}
		lo = end(r)
	}
	return nil
}

// checkExtents checks that extents are in order and their numbers in [lo, hi).
func checkExtents(extents []blockcrypt.ExtentInfo, lo, hi uint64) error {
	for i := range extents {
		e := &extents[i]
		n := uint64(e.Number)
		if n < lo || n >= hi {
			return damaged("extent %d is out of place", n)
		}
		if e.Live == 0 || e.Live > e.Slots {
			return damaged("extent %d has %d slots, %d of them live", n, e.Slots, e.Live)
		}
		lo = n + 1
	}
	return nil
}

func checkChildren(children []blockcrypt.NodeChild) error {
	next := uint32(0)
	for _, c := range children {
		if c.Index < next || c.Index >= blockcrypt.MaxNodeChildren {
			return damaged("child %d is out of place", c.Index)
		}
		if c.Ref.IsZero() {
			return damaged("child %d refers to nothing", c.Index)
		}
		next = c.Index + 1
	}
	if len(children) == 0 {
		return damaged("node without children")
	}
	return nil
}
