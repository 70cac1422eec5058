package filemap

import (
	"context"
	"fmt"
	"slices"

	"envfs/blockcrypt"
)

// FoldInput is what a fold knows about one file.
type FoldInput struct {
	// Header is the file's header so far, nil if it has none. It is not changed.
	Header *blockcrypt.Header

	// Delta is the frozen layer of the map, nil if it says nothing. No run before Blocks may lie in the journal any more.
	Delta *Delta

	// Blocks is the size of the file in blocks. What lies beyond is dropped.
	Blocks uint64

	// Changed are the lines of new extents, and of those that differ from what the table says; sorted by number. Live is
	// not looked at. An extent keeps its object: version, extra and generation do not change.
	Changed []blockcrypt.ExtentInfo

	// NextExt is the number for the next extent; never less than what the header says.
	NextExt uint32

	// Old, if not nil, tells which pages are to be written anew although nothing in them changes.
	Old func(ref blockcrypt.PageRef) bool

	// Load returns a page of the map or the table so far, as [DecodePage] made it.
	Load func(ctx context.Context, key PageKey) (*Page, error)

	// Emit writes the body of a new page and returns the reference to it; children come before the nodes that refer to
	// them. Pages that were emitted by a fold that then fails belong to nothing.
	Emit func(kind PageKind, body []byte) (blockcrypt.PageRef, error)
}

// FoldOutput is what a fold makes of a file's map and extent table.
type FoldOutput struct {
	Runs      []blockcrypt.Run
	MapTop    blockcrypt.PageRef
	MapHeight uint8
	Extents   []blockcrypt.ExtentInfo
	ExtTop    blockcrypt.PageRef
	ExtHeight uint8
	NextExt   uint32

	// Died are the pages of the old map and table that the new ones do not have.
	Died []blockcrypt.PageRef

	// Dead are the extents that no block of the file lies in any more; they have left the table, or never came into it.
	Dead []blockcrypt.ExtentInfo

	// Sparse are the extents, among those whose lines this fold looked at, of which less than half is live: candidates
	// for being rewritten.
	Sparse []blockcrypt.ExtentInfo

	// ExtentsMore is how many lines more, or less if negative, the table has than before.
	ExtentsMore int
}

// Apply puts the map and the table into a header.
func (o *FoldOutput) Apply(h *blockcrypt.Header) {
	h.Runs, h.MapTop, h.MapHeight = o.Runs, o.MapTop, o.MapHeight
	h.Extents, h.ExtTop, h.ExtHeight = o.Extents, o.ExtTop, o.ExtHeight
	h.NextExt = o.NextExt
}

// Build folds a delta into the map of a file: it writes the leaf pages that change and the nodes above them, and counts
// what each extent still holds. Pages that stay as they are keep their reference; they are loaded only where the delta
// touches them or the end of the file cuts them, and a few more when a map has become so small that it may come back
// into the header; with in.Old all nodes are. The counts of live blocks are exact if they were. A map and a table that
// contradict each other give an error that wraps [blockcrypt.ErrDamaged].
func Build(ctx context.Context, in FoldInput) (*FoldOutput, error) {
	out, err := in.build(ctx)
	if err != nil {
		return nil, fmt.Errorf("fold map: %w", err)
	}
	return out, nil
}

func (in *FoldInput) build(ctx context.Context) (*FoldOutput, error) {
	base := &Base{}
	next := uint32(0)
	if in.Header != nil {
		var err error
		if base, err = NewBase(in.Header); err != nil {
			return nil, err
		}
		next = in.Header.NextExt
	}
	if err := in.check(next); err != nil {
		return nil, err
	}
	out := &FoldOutput{NextExt: in.NextExt}
	live, wiped, err := in.foldMap(ctx, base, out)
	if err != nil {
		return nil, err
	}
	for number, n := range live {
		if n == 0 {
			delete(live, number)
		}
	}
	if err := in.foldExtents(ctx, base, live, wiped, out); err != nil {
		return nil, err
	}
	return out, nil
}

// check checks what the caller says beside the delta, for a file whose header names next as its next extent.
func (in *FoldInput) check(next uint32) error {
	if in.Blocks > MaxBlocks {
		return fmt.Errorf("%d blocks are more than a file can have", in.Blocks)
	}
	if in.NextExt < next {
		return fmt.Errorf("next extent %d is less than %d", in.NextExt, next)
	}
	for i := range in.Changed {
		n := in.Changed[i].Number
		if n >= in.NextExt || i > 0 && n <= in.Changed[i-1].Number {
			return fmt.Errorf("changed extent %d is out of order, or not below %d", n, in.NextExt)
		}
	}
	return nil
}

// Objects returns what a file has on the store beside its header: its extents and its pages. It loads nodes and the
// leaves of the extent table, no leaf of the map. Who removes a file needs it.
func Objects(ctx context.Context, h *blockcrypt.Header, load func(context.Context, PageKey) (*Page, error)) (extents []blockcrypt.ExtentInfo, pages []blockcrypt.PageRef, err error) {
	b, err := NewBase(h)
	if err != nil {
		return nil, nil, fmt.Errorf("list objects of a file: %w", err)
	}
	t := &tree{kind: RunPage, load: load}
	err = t.visit(ctx, PageKey{Ref: b.top, Kind: RunPage, Height: b.height}, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("list objects of a file: %w", err)
	}
	t.kind = ExtentPage
	extents = slices.Clone(b.extents)
	err = t.visit(ctx, PageKey{Ref: b.extTop, Kind: ExtentPage, Height: b.extHeight}, func(p *Page) {
		extents = append(extents, p.extents...)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list objects of a file: %w", err)
	}
	return extents, t.died, nil
}
