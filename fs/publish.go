package fs

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
)

// A store that others share sees nothing of what is made here until it is published:
//
//	close segment and extents -> sync them here -> extents -> segments -> root, which names the segments -> release
//
// Root is the commit. What was published and is not named by it yet is published again after a crash, byte for byte.
// Publishing goes on while a fold is at work (fs/publishfold.go).

// publishEvery is how long what is committed waits to be published.
const publishEvery = 2 * time.Second

// So many bytes in extents are published at once, so that who waits for all of it does not wait for the first of it: much
// less where syncs wait.
const (
	publishBytes     = 256 << 20
	publishSyncBytes = 64 << 20
)

// unpublished is what only this machine has. It is empty, and nil, where the store is not shared.
type unpublished struct {
	extents  map[string]uint64 // those that a batch names, with their lengths; guarded by FS.mu
	fresh    int64             // bytes that were added to extents since publishing was woken; guarded by FS.mu
	segments map[string]bool   // live ones that root names and others can see; guarded by FS.mu
	batch    uint64            // the last that root lets others see; guarded by rootMu
}

// leftHere is what a mount that has ended has not published.
type leftHere struct {
	bytes   int64
	objects int
}

// noteExtent remembers that a batch names an extent. FS.mu is held.
func (f *FS) noteExtent(id blockcrypt.ID, x *blockcrypt.ExtentInfo) {
	if f.shared == nil {
		return
	}
	name := extentName(id, x)
	f.mine.fresh += int64(x.Length - f.mine.extents[name])
	f.mine.extents[name] = x.Length
	bound := int64(publishBytes)
	if f.opts.SyncPublishes {
		bound = publishSyncBytes
	}
	if f.mine.fresh >= bound {
		f.mine.fresh = 0
		select {
		case f.wakePublish <- struct{}{}:
		default:
		}
	}
}

// findUnpublished finds what an earlier mount has not published or not released, among what replaying has found. It is
// for opening.
func (f *FS) findUnpublished(ctx context.Context, live []blockcrypt.SegmentRef) error {
	if f.shared == nil {
		return nil
	}
	here := make(map[string]bool)
	objects, err := f.shared.Unpublished(ctx)
	if err != nil {
		return err
	}
	for _, o := range objects {
		here[o.Name] = true
	}
	f.mu.Lock()
	for id, fd := range f.active.files {
		for i := range fd.exts {
			if here[extentName(id, &fd.exts[i])] {
				f.noteExtent(id, &fd.exts[i])
			}
		}
	}
	for _, s := range live {
		if !here[s.Name] {
			f.mine.segments[s.Name] = true
		}
	}
	f.mu.Unlock()
	return nil
}

// unpublishedSize returns how much is here only: bytes, and objects that hold any.
func (f *FS) unpublishedSize() (bytes int64, objects int) {
	if f.shared == nil {
		return 0, 0
	}
	if p := f.left.Load(); p != nil {
		return p.bytes, p.objects
	}
	f.commitMu.Lock()
	live := f.liveSegments()
	f.commitMu.Unlock()
	for _, s := range f.unseen(live) {
		bytes += int64(s.Length)
		objects++
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, length := range f.mine.extents {
		bytes += int64(length)
		objects++
	}
	return bytes, objects
}

// unseen returns those of the live segments that others cannot see.
func (f *FS) unseen(live []blockcrypt.SegmentRef) []blockcrypt.SegmentRef {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(live), func(s blockcrypt.SegmentRef) bool { return f.mine.segments[s.Name] })
}

// Publish lets others see all that was done so far. On a store that is not shared it does nothing.
func (f *FS) Publish(ctx context.Context) error {
	if f.shared == nil {
		return nil
	}
	if err := f.writable(); err != nil {
		return err
	}
	if err := f.flushAll(ctx); err != nil && !isFull(err) {
		return err
	}
	if f.tooMuchPublished() {
		f.foldMu.Lock()
		defer f.foldMu.Unlock()
	}
	return f.publishNow(ctx)
}

// publishNow is Publish for what is in a batch.
func (f *FS) publishNow(ctx context.Context) error {
	if f.shared == nil {
		return nil
	}
	if err := f.rootMu.LockContext(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer f.rootMu.Unlock()
	return f.publishLocked(ctx)
}

// publishTo publishes what is committed up to a batch. Many who wait share one publication.
func (f *FS) publishTo(ctx context.Context, batch uint64) error {
	if err := f.rootMu.LockContext(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer f.rootMu.Unlock()
	if f.mine.batch >= batch {
		return nil
	}
	return f.publishLocked(ctx)
}

// publishLocked is Publish for what is in a batch. rootMu is held.
func (f *FS) publishLocked(ctx context.Context) error {
	if err := f.stoppedBy(); err != nil {
		return err
	}
	f.mu.Lock()
	waits := len(f.pending.batch.Deltas) > 0 || len(f.queue) > 0
	f.mu.Unlock()
	if !waits && f.committed.Load() == f.mine.batch {
		return nil
	}
	began := f.clock.Now()
	whole := context.WithoutCancel(ctx) // of steps that are not to be broken off
	live, extents, err := f.closeForPublishing(whole)
	if err != nil {
		return err
	}
	last := f.committed.Load()
	if last == f.mine.batch {
		return nil
	}
	if err := f.syncNow(whole); err != nil {
		return err
	}
	if err := f.send(ctx, live, extents); err != nil {
		return err
	}
	if err := f.replaceRootAs(ctx, true, func(r *blockcrypt.Root) { nameSegments(r, live) }); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	f.sent(whole, live, extents)
	f.mine.batch = last
	f.notePublished(last, began)
	f.wake() // it may have become enough to fold
	return nil
}

// closeForPublishing makes what is committed stand still: it begins a new segment, and no flush appends to an extent any
// more that a batch names. It returns the live segments and the extents that are not published. rootMu is held.
func (f *FS) closeForPublishing(ctx context.Context) (live []blockcrypt.SegmentRef, extents map[string]uint64, err error) {
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	if err := f.handOver(ctx, f.journal.Prepare); err != nil {
		return nil, nil, fmt.Errorf("begin a journal segment: %w", err)
	}
	f.mu.Lock()
	taken := f.take()
	f.layerNo++
	f.mu.Unlock()
	f.appendAll(ctx, taken)
	if err := f.stoppedBy(); err != nil {
		return nil, nil, err
	}
	if err := f.journal.Rotate(ctx); err != nil {
		f.stop(fmt.Errorf("begin a journal segment: %w", err))
		return nil, nil, err
	}
	f.committed.Store(f.journal.Position().Number)
	f.room.set(f.journal.Room())
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.liveSegments(), maps.Clone(f.mine.extents), nil
}

// send puts extents and live segments, which are closed and synced, where others can see them once root names them.
func (f *FS) send(ctx context.Context, live []blockcrypt.SegmentRef, extents map[string]uint64) error {
	if f.shared == nil {
		return nil
	}
	var objects []remote.Info
	for name, length := range extents {
		objects = append(objects, remote.Info{Name: name, Size: int64(length)})
	}
	slices.SortFunc(objects, func(a, b remote.Info) int { return cmp.Compare(a.Name, b.Name) })
	if err := f.shared.Publish(ctx, objects); err != nil {
		return err
	}
	objects = objects[:0]
	for _, s := range f.unseen(live) {
		objects = append(objects, remote.Info{Name: s.Name, Size: int64(s.Length)})
	}
	return f.shared.Publish(ctx, objects)
}

// sent notes that root names what was sent, and lets go of the copies here. rootMu is held.
func (f *FS) sent(ctx context.Context, live []blockcrypt.SegmentRef, extents map[string]uint64) {
	if f.shared == nil {
		return
	}
	names := slices.Collect(maps.Keys(extents))
	f.mu.Lock()
	for _, name := range names {
		delete(f.mine.extents, name)
	}
	for _, s := range live {
		if !f.mine.segments[s.Name] {
			f.mine.segments[s.Name] = true
			names = append(names, s.Name)
		}
	}
	f.mu.Unlock()
	if err := f.shared.Release(ctx, names); err != nil {
		f.logger.Warn("what was published takes space here still", "cause", err)
	}
}

// commitContext is the context of a step that is not to be broken off: without an end, but that a shared store may be away
// for any time, so that a step there ends a while after ctx. Then it is not known whether it was done, and writing stops.
func (f *FS) commitContext(ctx context.Context) (context.Context, context.CancelFunc) {
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if f.shared == nil {
		return whole, cancel
	}
	stop := context.AfterFunc(ctx, func() {
		late := time.NewTimer(commitGrace)
		defer late.Stop()
		select {
		case <-whole.Done():
		case <-late.C:
			cancel()
		}
	})
	return whole, func() { stop(); cancel() }
}

// commitGrace is how long a step at a shared store that is not to be broken off may take after it was.
const commitGrace = 20 * time.Second

// farContext is the context of work at the store that can be left to the next mount: on a shared one, which may be away, it
// ends with ctx.
func (f *FS) farContext(ctx context.Context) context.Context {
	if f.shared != nil {
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// takeBack deletes objects that nothing will name.
func (f *FS) takeBack(ctx context.Context, names []string) error {
	if f.shared != nil {
		_ = f.store.Sync(ctx) // what is under way is to be there to be deleted; its error was met before
	}
	return f.store.Delete(ctx, names...)
}

// publishLoop publishes what is committed, again and again.
func (f *FS) publishLoop(ctx context.Context) {
	tick := time.NewTicker(publishEvery)
	defer tick.Stop()
	waits := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-f.wakePublish:
		}
		if f.stoppedBy() != nil {
			return
		}
		err := f.Publish(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && waits:
			f.logger.Info("all is published again")
		case err != nil && !waits:
			f.logger.Warn("what was done waits here to be published; it will be tried again", "cause", err)
		}
		waits = err != nil
	}
}
