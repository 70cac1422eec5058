package fs

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/fs/journal"
	"envfs/remote"
)

// head is what a fold has written for a file or directory.
type head struct {
	ref     blockcrypt.Ref
	extents uint32
	names   uint32 // of a directory
}

// folding is one fold at work. It reads the frozen layer and the base, which do not change meanwhile, and writes new
// objects; nothing of it counts before root names it.
//
//	freeze -> sync journal and extents -> map pages, headers, indexes, fold record -> sync -> root -> its copy -> deletion
type folding struct {
	f      *FS
	ctx    context.Context // of write, for what looks up sizes
	number uint64
	r      blockcrypt.R
	epoch  uint32
	kek    []byte
	layer  *layer
	cut    journal.Pos
	old    []blockcrypt.SegmentRef // segments that the fold makes superfluous

	born    []blockcrypt.Born
	dead    []blockcrypt.Dead
	heads   map[blockcrypt.ID]head
	order   []blockcrypt.ID // of heads
	extents []*extent       // of this fold, open, to be synced
	made    []string        // names of all extents of this fold
	given   []given         // names that could not be folded
	waste   []string        // objects written for those, which nothing names
	runs    []blockcrypt.ObjRef
	records []string // fold records that were stored
	sparse  []foundSparse
	renew   *renewal          // nil: the fold renews nothing
	sending map[string]uint64 // extents of the new tree that were not published before, with their lengths
}

// Fold writes the headers and indexes that the journal implies, and drops the journal's batches. Folds run one at a
// time.
func (f *FS) Fold(ctx context.Context) error {
	if err := f.writable(); err != nil {
		return err
	}
	if err := f.flushAll(ctx); err != nil && !isFull(err) {
		return err
	}
	return f.fold(ctx, false)
}

func (f *FS) fold(ctx context.Context, closing bool) error {
	f.foldMu.Lock()
	defer f.foldMu.Unlock()
	return f.foldLocked(ctx, closing)
}

// foldIf folds if that is still wanted when no other fold is at work any more.
func (f *FS) foldIf(ctx context.Context, wanted func() bool) error {
	f.foldMu.Lock()
	defer f.foldMu.Unlock()
	if !wanted() {
		return nil
	}
	return f.foldLocked(ctx, false)
}

func (f *FS) foldLocked(ctx context.Context, closing bool) error {
	return f.foldAnd(ctx, closing, nil)
}

// foldAnd folds, and renews if renew is not nil. foldMu is held.
func (f *FS) foldAnd(ctx context.Context, closing bool, renew *renewal) error {
	if err := f.stoppedBy(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f.giveBack(ctx, false)
	whole := context.WithoutCancel(ctx) // of steps that are not to be broken off: memory would no longer fit the store
	fo, err := f.freeze(whole, renew)
	if err != nil {
		return err
	}
	if fo == nil {
		if closing {
			if err := f.rootMu.LockContext(ctx); err != nil {
				return err
			}
			defer f.rootMu.Unlock()
			return f.replaceRoot(ctx, func(r *blockcrypt.Root) { f.closeTerm(r) })
		}
		return nil
	}
	root, err := fo.write(ctx, closing)
	if err != nil {
		fo.abandon(ctx)
		return fmt.Errorf("fold %d: %w", fo.number, err)
	}
	if err := fo.name(ctx, root, closing); err != nil {
		if isFull(err) { // the old root is there
			fo.abandon(ctx)
		}
		return fmt.Errorf("fold %d: %w", fo.number, err)
	}
	fo.dropSegments(f.farContext(ctx))
	if err := f.store.Delete(f.farContext(ctx), fo.waste...); err != nil {
		f.logger.Warn("what was written for damaged files is left behind; the next mount removes it", "cause", err)
	}
	f.folds.Add(1)
	f.lastFold.Store(f.clock.Now().UnixNano())
	f.bury(fo)
	if err := f.reclaim(ctx); err != nil {
		f.logger.Warn("superseded objects were not deleted; the next fold tries again", "cause", err)
	}
	f.holdBack(ctx)
	return nil
}

// freeze makes the active layer the frozen one, and the journal begin a new segment. It returns nil if there is nothing
// to fold.
func (f *FS) freeze(ctx context.Context, renew *renewal) (*folding, error) {
	epoch := f.keyring().Newest()
	kek, err := f.keyring().KEK(epoch)
	if err != nil {
		return nil, err
	}
	r, err := blockcrypt.NewR(f.rand, f.term.Tag)
	if err != nil {
		return nil, fmt.Errorf("draw a fold's version: %w", err)
	}
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	f.mu.Lock()
	empty := f.active.empty()
	f.mu.Unlock()
	if empty && renew == nil {
		return nil, nil
	}
	if err := f.handOver(ctx, f.journal.Prepare); err != nil {
		return nil, fmt.Errorf("begin a journal segment: %w", err)
	}
	f.mu.Lock()
	taken := f.take()
	fo := &folding{f: f, number: f.nextFold, r: r, epoch: epoch, kek: kek, layer: f.active, renew: renew, heads: make(map[blockcrypt.ID]head)}
	f.setLayers(newLayer(), f.active)
	f.layerNo++
	f.nextFold++
	f.mu.Unlock()

	f.appendAll(ctx, taken)
	if err := f.stoppedBy(); err != nil {
		return nil, err
	}
	if err := f.journal.Rotate(ctx); err != nil {
		f.stop(fmt.Errorf("begin a journal segment: %w", err))
		return nil, err
	}
	fo.cut = f.journal.Position()
	f.committed.Store(fo.cut.Number)
	f.room.set(f.journal.Room())
	fo.old = f.liveSegments()
	return fo, nil
}

// write makes durable what the new tree will name, and the tree. It returns what root has to say then. What is carried over
// the cut because of damage is published before root names the fold, as it is behind the cut.
func (fo *folding) write(ctx context.Context, closing bool) (func(*blockcrypt.Root), error) {
	f := fo.f
	fo.ctx = ctx
	if err := f.syncNow(ctx); err != nil {
		return nil, err
	}
	if err := fo.buryDrops(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	dirs := f.root.Dirs
	f.mu.Unlock()
	for i := range dirs {
		e, known := fo.layer.get(f.super.id, uint64(i), dirs[i].Name)
		switch {
		case known && e != nil:
		case fo.renew.touches(dirs[i].ID):
			e = &dirs[i]
		default:
			continue // nothing below it has changed
		}
		next := *e
		fold := func() error { return fo.foldDir(ctx, &next) }
		var up bool
		var err error
		if known {
			up, err = fo.attempt(f.super.id, dirent{uint64(i), e.Name, e}, fold)
		} else {
			up, err = fo.spare(e.ID, fold)
		}
		if err != nil {
			return nil, err
		}
		if !up {
			dirs[i] = next
		}
	}
	record, err := f.writeRecord(ctx, fo)
	if err != nil {
		return nil, err
	}
	if err := fo.syncExtents(); err != nil {
		return nil, err
	}
	if err := fo.send(ctx, closing); err != nil {
		return nil, err
	}
	if err := f.store.Sync(ctx); err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	if err := fo.carry(ctx); err != nil {
		return nil, fmt.Errorf("carry over what is damaged: %w", err)
	}
	if len(fo.given) > 0 {
		if err := f.publishNow(ctx); err != nil {
			return nil, fmt.Errorf("carry over what is damaged: %w", err)
		}
	}
	return func(r *blockcrypt.Root) {
		r.LastFold, r.Fold = fo.number, record
		r.Cut, r.CutHash = fo.cut.Number, fo.cut.Hash
		r.Dirs = dirs
		r.Purged = f.grave.purgedTo()
		for _, b := range fo.born {
			r.Objects++
			r.Bytes += b.Length
		}
		for _, d := range fo.dead {
			if isFold(d.Name) {
				continue // a record's birth was not counted
			}
			r.Objects -= min(r.Objects, 1)
			r.Bytes -= min(r.Bytes, d.Length)
		}
	}, nil
}

// syncExtents makes the extents of the fold durable and closes them. A disk that fails to is not written to any more.
func (fo *folding) syncExtents() error {
	g := newSyncs()
	for _, x := range fo.extents {
		g.Go(func() error {
			if err := x.file.Sync(); err != nil {
				return fmt.Errorf("sync extent %s: %w", x.name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		fo.f.stop(err)
		return err
	}
	for _, x := range fo.extents {
		x.file.Close() // synced
	}
	fo.extents = fo.extents[:0]
	return nil
}

// object returns a decoded object of the base.
func (fo *folding) object(ctx context.Context, m *miss) (any, error) { return fo.f.object(ctx, m) }

// object returns a decoded object, without keeping it.
func (f *FS) object(ctx context.Context, m *miss) (any, error) {
	if v := f.cache.get(m.hash); v != nil {
		return v, nil
	}
	v, _, err := f.fetch(ctx, m, m.name())
	if err != nil {
		if errors.Is(err, remote.ErrNotExist) {
			err = missingIsDamage(err)
		}
		return nil, fmt.Errorf("load %w", &objectError{m.name(), m.owner, err})
	}
	return v, nil
}

// indexOf returns the index of a directory, without keeping it.
func (f *FS) indexOf(ctx context.Context, id blockcrypt.ID, ref blockcrypt.Ref) (*blockcrypt.Index, error) {
	v, err := f.object(ctx, indexMiss(id, ref))
	if err != nil {
		return nil, err
	}
	return cast[*blockcrypt.Index](v)
}

func (fo *folding) header(ctx context.Context, id blockcrypt.ID, ref blockcrypt.Ref) (*header, error) {
	if ref.IsZero() {
		return nil, nil
	}
	v, err := fo.object(ctx, headerMiss(id, ref))
	if err != nil {
		return nil, err
	}
	return cast[*header](v)
}
