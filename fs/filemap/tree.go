package filemap

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
)

// tree writes the pages of a map or of an extent table anew where an edit changes them, and the nodes above.
type tree struct {
	kind PageKind
	edit editor
	old  func(blockcrypt.PageRef) bool // nil: no page is written anew unless it changes
	load func(context.Context, PageKey) (*Page, error)
	emit func(PageKind, []byte) (blockcrypt.PageRef, error)
	died []blockcrypt.PageRef // pages of the old tree that the new one does not have
}

// editor is what changes in the leaves of a tree.
type editor interface {
	// touches reports whether the edit may change what lies in [lo, hi); there tells whether the old tree has a page
	// for it.
	touches(lo, hi uint64, there bool) bool

	// leaf returns what becomes of the leaf at first: the body of its new page, nil if nothing is left, or same if the
	// old page remains as it is. old is nil if there was none.
	leaf(first uint64, old *Page) (body []byte, same bool, err error)

	// gather does the work of leaf, but keeps the result for the header. It returns errLarge once that is too large.
	gather(first uint64, old *Page) error
}

// errLarge says that a paged tree is too large for the header, or that finding out would cost too much.
var errLarge = errors.New("too large for the header")

// maxProbe is how many leaves that do not change are read to find out whether a tree fits into the header again.
const maxProbe = 8

// root is the top of a tree and its height; the zero root is the empty tree.
type root struct {
	ref    blockcrypt.PageRef
	height uint8
}

// fit returns the least height of a tree that covers [0, n).
func (k PageKind) fit(n uint64) uint8 {
	var h uint8
	for h < k.maxHeight() && k.span(h) < n {
		h++
	}
	return h
}

// page loads a page of the old tree.
func (t *tree) page(ctx context.Context, key PageKey) (*Page, error) {
	p, err := t.load(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("load map page at %d, height %d: %w", key.First, key.Height, err)
	}
	if p == nil || !p.is(key) {
		return nil, damaged("another page stands at %d, height %d", key.First, key.Height)
	}
	return p, nil
}

// rewrite returns the tree that the edit makes of old. reach is the end of what the edit adds, limit that of what may
// be left.
func (t *tree) rewrite(ctx context.Context, old root, reach, limit uint64) (root, error) {
	height := min(max(old.height, t.kind.fit(reach)), t.kind.fit(limit))
	key := PageKey{Ref: old.ref, Kind: t.kind, Height: old.height}
	for !key.Ref.IsZero() && key.Height > height { // all but the first child lies beyond limit
		p, err := t.page(ctx, key)
		if err != nil {
			return root{}, err
		}
		t.died = append(t.died, key.Ref)
		key = PageKey{Kind: t.kind, Height: key.Height - 1}
		for _, c := range p.children {
			if child := p.childKey(c); c.Index == 0 {
				key = child
			} else if _, err := t.subtree(ctx, child, child.Height); err != nil {
				return root{}, err
			}
		}
	}
	ref, err := t.subtree(ctx, key, height)
	if err != nil || ref.IsZero() {
		return root{}, err
	}
	return root{ref, height}, nil
}

// subtree rewrites what lies under the page that key names, whose Ref is zero if there is none, and returns the new top,
// of the given height: key's own or, at the left edge of a tree that grows, a larger one.
func (t *tree) subtree(ctx context.Context, key PageKey, height uint8) (blockcrypt.PageRef, error) {
	there := !key.Ref.IsZero()
	renew := t.old != nil && there
	if (!there || key.Height == height) && !t.edit.touches(key.First, key.First+t.kind.span(height), there) &&
		!(renew && (height > 0 || t.old(key.Ref))) {
		return key.Ref, nil
	}
	var old *Page
	if there && key.Height == height {
		var err error
		if old, err = t.page(ctx, key); err != nil {
			return blockcrypt.PageRef{}, err
		}
	}
	var body []byte
	var same bool
	var err error
	if height == 0 {
		body, same, err = t.edit.leaf(key.First, old)
	} else {
		body, same, err = t.node(ctx, key, height, old)
	}
	if err != nil {
		return blockcrypt.PageRef{}, err
	}
	if same {
		if !renew || !t.old(key.Ref) {
			return key.Ref, nil
		}
		if body, err = old.encode(); err != nil {
			return blockcrypt.PageRef{}, err
		}
	}
	if old != nil {
		t.died = append(t.died, key.Ref)
	}
	if body == nil {
		return blockcrypt.PageRef{}, nil
	}
	ref, err := t.emit(t.kind, body)
	if err != nil {
		return blockcrypt.PageRef{}, fmt.Errorf("write map page at %d, height %d: %w", key.First, height, err)
	}
	return ref, nil
}

// node rewrites the children of a node and returns its new body.
func (t *tree) node(ctx context.Context, key PageKey, height uint8, old *Page) (body []byte, same bool, err error) {
	var children []blockcrypt.NodeChild
	same = old != nil
	err = t.each(key, height, old, func(i uint32, child PageKey) error {
		ref, err := t.subtree(ctx, child, height-1)
		if err != nil {
			return err
		}
		if !ref.IsZero() {
			children = append(children, blockcrypt.NodeChild{Index: i, Ref: ref})
		}
		same = same && ref == child.Ref
		return nil
	})
	if err != nil || same || len(children) == 0 {
		return nil, same, err
	}
	body, err = blockcrypt.EncodeNodePage(height, key.First, children)
	return body, false, err
}

// each calls fn for the children of a node that exist or that the edit may bring into being. A child that is the old
// tree, under a node that did not exist, keeps its own height.
func (t *tree) each(key PageKey, height uint8, old *Page, fn func(i uint32, child PageKey) error) error {
	span := t.kind.span(height - 1)
	for i := range uint32(blockcrypt.MaxNodeChildren) {
		child := PageKey{Kind: t.kind, Height: height - 1, First: key.First + uint64(i)*span}
		switch {
		case old != nil:
			if c, ok := old.child(i); ok {
				child = old.childKey(c)
			}
		case i == 0 && key.Height < height:
			child = key
		}
		if child.Ref.IsZero() && !t.edit.touches(child.First, child.First+span, false) {
			continue
		}
		if err := fn(i, child); err != nil {
			return err
		}
	}
	return nil
}

// gather hands all leaves to the editor, for a tree that comes back into the header; all old pages die. If it returns
// errLarge, the tree stays paged: nothing has happened but in the editor.
func (t *tree) gather(ctx context.Context, old root, reach uint64) error {
	probe := maxProbe
	key := PageKey{Ref: old.ref, Kind: t.kind, Height: old.height}
	died := len(t.died)
	err := t.gatherFrom(ctx, key, max(old.height, t.kind.fit(reach)), &probe)
	if err != nil {
		t.died = t.died[:died]
	}
	return err
}

func (t *tree) gatherFrom(ctx context.Context, key PageKey, height uint8, probe *int) error {
	var old *Page
	if !key.Ref.IsZero() && key.Height == height {
		var err error
		if old, err = t.page(ctx, key); err != nil {
			return err
		}
		t.died = append(t.died, key.Ref)
	}
	if height == 0 {
		return t.edit.gather(key.First, old)
	}
	if old != nil && height == 1 { // count before anything is loaded
		for _, c := range old.children {
			leaf := old.childKey(c)
			if !t.edit.touches(leaf.First, leaf.First+t.kind.span(0), true) {
				*probe--
			}
		}
		if *probe < 0 {
			return errLarge
		}
	}
	return t.each(key, height, old, func(_ uint32, child PageKey) error {
		return t.gatherFrom(ctx, child, height-1, probe)
	})
}

// visit notes every page below and including key as dead, and calls leaf, if it is not nil, for the leaves; otherwise no
// leaf is loaded.
func (t *tree) visit(ctx context.Context, key PageKey, leaf func(*Page)) error {
	if key.Ref.IsZero() {
		return nil
	}
	t.died = append(t.died, key.Ref)
	if key.Height == 0 && leaf == nil {
		return nil
	}
	p, err := t.page(ctx, key)
	if err != nil {
		return err
	}
	if key.Height == 0 {
		leaf(p)
	}
	for _, c := range p.children {
		if err := t.visit(ctx, p.childKey(c), leaf); err != nil {
			return err
		}
	}
	return nil
}
