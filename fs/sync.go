package fs

import (
	"container/list"
	"context"
	"fmt"
	"maps"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Bounds of the extents that are open, each with a descriptor: those that files go on to append to, the least recently
// used of which are closed, and those that a power loss could take, which a sync lets go of. Those of flushes at work
// come on top.
const (
	maxGrowing  = 128
	maxUnsynced = 256
)

// growing are the files whose extent is kept open, as the next flush may append to it: the most recently used first.
type growing struct {
	mu    sync.Mutex
	files list.List // of *content
}

// touch notes that c has an open extent, and returns the file whose extent is to be closed for that, if any.
func (g *growing) touch(c *content) (old *content) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.grows != nil {
		g.files.MoveToFront(c.grows)
		return nil
	}
	c.grows = g.files.PushFront(c)
	if g.files.Len() <= maxGrowing {
		return nil
	}
	old = g.files.Back().Value.(*content)
	g.removeLocked(old)
	return old
}

func (g *growing) remove(c *content) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeLocked(c)
}

func (g *growing) removeLocked(c *content) {
	if c.grows != nil {
		g.files.Remove(c.grows)
		c.grows = nil
	}
}

// keepGrowing keeps c's extent open for the next flush, and closes that of another file if they are too many. c.flushMu
// is held, so that of the other is not waited for: if it is taken, a flush is at work that will keep its extent anew.
func (f *FS) keepGrowing(c *content) {
	if c.cur == nil {
		return
	}
	if old := f.growing.touch(c); old != nil && old.flushMu.TryLock() {
		defer old.flushMu.Unlock()
		f.retire(old)
	}
}

// retire closes the extent that c appends to. flushMu is held.
func (f *FS) retire(c *content) {
	f.growing.remove(c)
	if c.cur != nil {
		f.closeExtent(c.cur)
		c.cur = nil
	}
}

// boundUnsynced syncs the extents that wait for it if they are too many.
func (f *FS) boundUnsynced() error {
	f.unsyncedMu.Lock()
	n := len(f.unsynced)
	f.unsyncedMu.Unlock()
	if n < maxUnsynced {
		return nil
	}
	f.syncMu.Lock()
	defer f.syncMu.Unlock()
	if err := f.stoppedBy(); err != nil {
		return err
	}
	return f.syncExtents(func(batch map[*extent]bool) error {
		g := newSyncs()
		for x := range batch {
			g.Go(x.file.Sync)
		}
		return g.Wait()
	})
}

// noteUnsynced remembers that an extent holds bytes that a power loss could take.
func (f *FS) noteUnsynced(x *extent) {
	f.unsyncedMu.Lock()
	defer f.unsyncedMu.Unlock()
	if _, ok := f.unsynced[x]; !ok {
		f.unsynced[x] = false
	}
}

// closeExtent closes an extent that will not grow any more, now or after the sync that it waits for.
func (f *FS) closeExtent(x *extent) {
	f.unsyncedMu.Lock()
	waits := false
	for _, set := range []map[*extent]bool{f.unsynced, f.syncing} {
		if _, ok := set[x]; ok {
			set[x], waits = true, true
		}
	}
	f.unsyncedMu.Unlock()
	if !waits {
		x.file.Close()
	}
}

// syncNow makes durable all that is committed: extents, names, segments. Many who wait share one.
func (f *FS) syncNow(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // a sync that was broken off would stop all writing
	target := f.committed.Load()
	f.syncMu.Lock()
	defer f.syncMu.Unlock()
	if err := f.stoppedBy(); err != nil {
		return err
	}
	if f.durable.Load() >= target {
		return nil
	}
	// What is committed by now was appended before: a sync of every extent that is un-synced now covers it.
	target = f.committed.Load()
	err := f.syncExtents(func(batch map[*extent]bool) error { return f.syncParts(ctx, batch) })
	if err != nil {
		return err
	}
	f.durable.Store(max(f.durable.Load(), target))
	return nil
}

// syncExtents has all that is un-synced by now synced, and lets go of what does not grow any more. syncMu is held.
func (f *FS) syncExtents(sync func(batch map[*extent]bool) error) error {
	f.unsyncedMu.Lock()
	batch := maps.Clone(f.unsynced)
	f.syncing = f.unsynced
	f.unsynced = make(map[*extent]bool)
	f.unsyncedBytes.Store(0)
	f.unsyncedMu.Unlock()
	if err := sync(batch); err != nil {
		// Which pages are lost is unknown: nothing may be called durable any more.
		f.stop(fmt.Errorf("sync: %w", err))
		return f.stoppedBy()
	}
	f.finishExtents()
	return nil
}

// finishExtents closes the extents just synced that were to be closed meanwhile.
func (f *FS) finishExtents() {
	f.unsyncedMu.Lock()
	defer f.unsyncedMu.Unlock()
	for x, closed := range f.syncing {
		if _, again := f.unsynced[x]; again {
			f.unsynced[x] = f.unsynced[x] || closed
		} else if closed {
			x.file.Close()
		}
	}
	f.syncing = nil
}

// maxSyncs bounds how many files are synced at a time.
const maxSyncs = 16

// newSyncs returns a group of functions that run at the same time, a bounded number of them.
func newSyncs() *errgroup.Group {
	g := new(errgroup.Group)
	g.SetLimit(maxSyncs)
	return g
}

// syncParts syncs extents, the names of what was made, and the journal, in parallel: replaying finds out what of a
// batch is missing, so no order is needed between them.
func (f *FS) syncParts(ctx context.Context, batch map[*extent]bool) error {
	g := newSyncs()
	g.Go(func() error { return f.journal.Sync(ctx) })
	g.Go(func() error { return f.local.Sync(ctx) })
	for x := range batch {
		g.Go(x.file.Sync)
	}
	return g.Wait()
}

// Sync makes durable all that was done so far. What a damaged file keeps from being saved is an error, after all else is
// done.
func (f *FS) Sync(ctx context.Context) error {
	if f.readOnly {
		return nil
	}
	if err := f.SyncHere(ctx); err != nil || !f.opts.SyncPublishes {
		return err
	}
	return f.syncFor(context.WithoutCancel(ctx))
}

// SyncHere is Sync that does not wait for a shared store, whatever Options.SyncPublishes says.
func (f *FS) SyncHere(ctx context.Context) error {
	if f.readOnly {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if err := f.flushAll(ctx); err != nil {
		return err
	}
	if err := f.syncNow(ctx); err != nil {
		return err
	}
	return f.unsavable()
}

// syncFor makes durable all that is committed where whoever asked wants it to be: here, or where others see it.
func (f *FS) syncFor(ctx context.Context) error {
	target := f.committed.Load()
	if err := f.syncNow(ctx); err != nil || !f.opts.SyncPublishes || f.shared == nil {
		return err
	}
	if f.opts.PublishWait > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, f.opts.PublishWait)
		defer stop()
	}
	return f.publishTo(ctx, target)
}
