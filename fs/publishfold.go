package fs

import (
	"context"
	"fmt"
	"slices"

	"envfs/blockcrypt"
)

// A fold of a store that others share publishes what its tree names before root names the tree, and root names the
// segments, too, that were published while the fold was at work.

// send is FS.send for the extents of the new tree. What batches name is published as ever, so that no two do it at a time;
// at the end of a mount nobody else does, and the segments need not go.
func (fo *folding) send(ctx context.Context, closing bool) error {
	f := fo.f
	if f.shared == nil {
		return nil
	}
	if !closing {
		if err := f.publishNow(ctx); err != nil {
			return err
		}
	}
	if err := f.local.Sync(ctx); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	made, dead := make(map[string]bool), make(map[string]bool)
	for _, name := range fo.made {
		made[name] = true
	}
	for _, d := range fo.dead {
		dead[d.Name] = true
	}
	fo.sending = make(map[string]uint64)
	f.mu.Lock()
	for _, b := range fo.born {
		if _, mine := f.mine.extents[b.Name]; (mine || made[b.Name]) && !dead[b.Name] {
			fo.sending[b.Name] = b.Length
		}
	}
	f.mu.Unlock()
	return f.send(ctx, nil, fo.sending)
}

// visible returns the segments behind the cut that others can see: what was published while the fold was at work. rootMu
// is held.
func (fo *folding) visible() []blockcrypt.SegmentRef {
	f := fo.f
	if f.shared == nil {
		return nil
	}
	f.commitMu.Lock()
	live := f.liveSegments()
	f.commitMu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(live, func(s blockcrypt.SegmentRef) bool {
		return !f.mine.segments[s.Name] || slices.ContainsFunc(fo.old, func(o blockcrypt.SegmentRef) bool { return o.Name == s.Name })
	})
}

// sent is FS.sent, and forgets what the fold has made superfluous before it was published. rootMu is held.
func (fo *folding) sent(ctx context.Context) {
	f := fo.f
	if f.shared == nil {
		return
	}
	f.sent(ctx, nil, fo.sending)
	var names []string
	f.mu.Lock()
	for _, d := range fo.dead {
		if _, mine := f.mine.extents[d.Name]; mine {
			delete(f.mine.extents, d.Name)
			names = append(names, d.Name)
		}
	}
	for _, s := range fo.old {
		delete(f.mine.segments, s.Name)
	}
	f.mu.Unlock()
	f.mine.batch = max(f.mine.batch, fo.cut.Number)
	f.notePublished(f.mine.batch, f.clock.Now())
	if err := f.shared.Release(ctx, names); err != nil {
		f.logger.Warn("what was folded takes space here still", "cause", err)
	}
}

// What is published is folded when it has become so much: who opens the vault reads all of it. Before, a small file costs
// a part of a request, after the fold one of its own.
const (
	foldSegments = 512
	foldBytes    = 32 << 20
	closingFold  = 256  // objects that an unmount writes at most
	maxSegments  = 4096 // beyond this many live ones publishing waits for the fold
)

// tooMuchPublished reports whether publishing is to wait for the fold that is at work.
func (f *FS) tooMuchPublished() bool {
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	return len(f.liveSegments()) >= maxSegments
}

// muchPublished reports whether there is enough to fold: bytes of deltas and content, or segments.
func (f *FS) muchPublished(size int64) bool {
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	k, ok := f.store.(keeper)
	return size > foldBytes || len(f.liveSegments()) >= foldSegments || ok && k.KeptMuch()
}

// closeShared publishes what waits, and folds if that is little; then the term is closed. foldMu is held.
func (f *FS) closeShared(ctx context.Context) error {
	f.mu.Lock()
	objects := len(f.active.files) + len(f.active.dirs) + len(f.active.drops)
	f.mu.Unlock()
	if objects <= closingFold {
		return f.foldLocked(ctx, true)
	}
	if err := f.rootMu.LockContext(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer f.rootMu.Unlock()
	if err := f.publishLocked(ctx); err != nil {
		return err
	}
	return f.replaceRoot(ctx, func(r *blockcrypt.Root) { f.closeTerm(r) })
}
