package fs

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/remote"
)

// completeness finds out which of several trees are complete on the store.
type completeness struct {
	f     *FS
	sizes map[string]int64 // of all objects
	folds map[string]*blockcrypt.FoldRecord
}

func (f *FS) newCompleteness(ctx context.Context) (*completeness, error) {
	c := &completeness{f: f, sizes: make(map[string]int64), folds: make(map[string]*blockcrypt.FoldRecord)}
	err := f.store.List(ctx, "", func(i remote.Info) error {
		c.sizes[i.Name] = i.Size
		if f.opts.Progress != nil && len(c.sizes)%1000 == 0 {
			f.opts.Progress("looking at objects", int64(len(c.sizes)), 0)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	return c, nil
}

// missing names an object that a root's tree needs and that is not there or too short; "" if none is. It begins with
// what was born last, which is what most incomplete copies lack.
func (c *completeness) missing(ctx context.Context, root *blockcrypt.Root) (string, error) {
	if _, ok := c.sizes[root.KeyFile.Name]; !ok {
		return root.KeyFile.Name, nil
	}
	dead := make(map[string]bool)
	refs := []blockcrypt.ObjRef{root.Fold}
	for i := 0; i < len(refs); i++ {
		rec, err := c.fold(ctx, refs[i])
		if errors.Is(err, ErrDamaged) {
			return refs[i].Name, nil
		}
		if err != nil {
			return "", err
		}
		if i == 0 {
			refs = append(refs, rec.Runs...) // the newest first
		}
		for _, d := range rec.Dead {
			dead[d.Name] = true
		}
		for _, b := range rec.Born {
			if n, ok := c.sizes[b.Name]; (!ok || uint64(n) < b.Length) && !dead[b.Name] {
				return b.Name, nil
			}
		}
	}
	return "", nil
}

func (c *completeness) fold(ctx context.Context, ref blockcrypt.ObjRef) (*blockcrypt.FoldRecord, error) {
	if rec := c.folds[ref.Name]; rec != nil {
		return rec, nil
	}
	if _, ok := c.sizes[ref.Name]; !ok {
		return nil, fmt.Errorf("fold record %s is missing: %w", ref.Name, ErrDamaged)
	}
	rec, err := c.f.loadFold(ctx, ref)
	if err == nil {
		c.folds[ref.Name] = rec
	}
	return rec, err
}

// beyond reports whether folds later than root's have left anything: a fold that a crash has cut off, or one whose root
// is not here.
func (c *completeness) beyond(root *blockcrypt.Root) bool {
	for name := range c.sizes {
		n, err := blockcrypt.ParseName(name)
		if err != nil || n.Seq <= root.LastFold {
			continue
		}
		switch n.Kind {
		case blockcrypt.KindFold, blockcrypt.KindHeader, blockcrypt.KindIndex, blockcrypt.KindShard, blockcrypt.KindList, blockcrypt.KindMapPage:
			return true // extents are made between folds, too
		}
	}
	return false
}
