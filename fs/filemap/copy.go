package filemap

import (
	"context"
	"fmt"

	"envfs/blockcrypt"
)

// Copy writes every page of a file's map and extent table anew, with the same content but for references to pages, and
// puts the new tops into h. load returns the body of an old page, emit writes a new one and returns the reference to
// it, children first. died are the old pages. Which block lies where does not change.
func Copy(ctx context.Context, h *blockcrypt.Header, load func(context.Context, PageKey) ([]byte, error),
	emit func(body []byte) (blockcrypt.PageRef, error)) (died []blockcrypt.PageRef, err error) {
	c := &copier{load: load, emit: emit}
	if _, err := NewBase(h); err != nil {
		return nil, fmt.Errorf("copy map: %w", err)
	}
	if h.MapTop, err = c.page(ctx, PageKey{Ref: h.MapTop, Kind: RunPage, Height: h.MapHeight}); err == nil {
		h.ExtTop, err = c.page(ctx, PageKey{Ref: h.ExtTop, Kind: ExtentPage, Height: h.ExtHeight})
	}
	if err != nil {
		return nil, fmt.Errorf("copy map: %w", err)
	}
	return c.died, nil
}

type copier struct {
	load func(context.Context, PageKey) ([]byte, error)
	emit func([]byte) (blockcrypt.PageRef, error)
	died []blockcrypt.PageRef
}

// page copies the page that key names, and all below it.
func (c *copier) page(ctx context.Context, key PageKey) (ref blockcrypt.PageRef, err error) {
	if key.Ref.IsZero() {
		return ref, nil
	}
	body, err := c.load(ctx, key)
	if err != nil {
		return ref, fmt.Errorf("load map page at %d, height %d: %w", key.First, key.Height, err)
	}
	p, err := DecodePage(key, body)
	if err != nil {
		return ref, err
	}
	if key.Height > 0 {
		children := make([]blockcrypt.NodeChild, 0, len(p.children))
		for _, child := range p.children {
			under, err := c.page(ctx, p.childKey(child))
			if err != nil {
				return ref, err
			}
			children = append(children, blockcrypt.NodeChild{Index: child.Index, Ref: under})
		}
		if body, err = blockcrypt.EncodeNodePage(key.Height, key.First, children); err != nil {
			return ref, err
		}
	}
	c.died = append(c.died, key.Ref)
	if ref, err = c.emit(body); err != nil {
		return ref, fmt.Errorf("write map page at %d, height %d: %w", key.First, key.Height, err)
	}
	return ref, nil
}

// Pages calls fn with the reference to each page of a file's map and extent table. It loads nodes only.
func Pages(ctx context.Context, h *blockcrypt.Header, load func(context.Context, PageKey) (*Page, error), fn func(blockcrypt.PageRef)) error {
	b, err := NewBase(h)
	if err != nil {
		return fmt.Errorf("list pages of a map: %w", err)
	}
	t := &tree{kind: RunPage, load: load}
	err = t.visit(ctx, PageKey{Ref: b.top, Kind: RunPage, Height: b.height}, nil)
	if err == nil {
		t.kind = ExtentPage
		err = t.visit(ctx, PageKey{Ref: b.extTop, Kind: ExtentPage, Height: b.extHeight}, nil)
	}
	if err != nil {
		return fmt.Errorf("list pages of a map: %w", err)
	}
	for _, ref := range t.died {
		fn(ref)
	}
	return nil
}
