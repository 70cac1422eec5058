package fs

import (
	"context"
	"errors"
	"fmt"
)

// isFull reports whether an operation failed for want of space, and no more than that.
func isFull(err error) bool { return errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrStopped) }

// operate runs one operation: what was written before goes first, then fn, again and again until it finds all that it
// needs in memory, then its batch is appended. fn runs under FS.mu and changes nothing before it can no longer miss or
// fail. When operate returns nil the operation survives the end of this process.
//
// On a full disk what frees space goes on without what was written before, if that does not fit: whoever wrote it is told
// ENOSPC by close(2) or fsync(2), and has it in memory until there is space.
func (f *FS) operate(ctx context.Context, u urgency, fn func() error) error {
	if u == ordinary {
		if err := f.waitTurn(ctx, opRoom); err != nil {
			return err
		}
	}
	if err := f.throttle(ctx); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := f.flushAll(ctx); err != nil && !(u == freeing && isFull(err)) {
		return err
	}
	return f.apply(ctx, u, opRoom, fn)
}

// change is operate for an operation that a full disk refuses.
func (f *FS) change(ctx context.Context, fn func() error) error {
	return f.operate(ctx, ordinary, fn)
}

// throttle has operations wait for a fold when there is too much to fold, or until ctx ends.
func (f *FS) throttle(ctx context.Context) error {
	if err := f.writable(); err != nil {
		return err
	}
	limits := &f.opts.Limits
	beyond := func(times int64) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		bytes, inline := f.active.fresh()
		return bytes > times*limits.Deltas || inline > times*limits.Inline
	}
	if !beyond(1) {
		return nil
	}
	f.wake()
	if !beyond(2) {
		return nil
	}
	if err := f.flushAll(context.WithoutCancel(ctx)); err != nil && !isFull(err) {
		return err
	}
	err := f.relieve(ctx, "fold", func(ctx context.Context) error { return f.foldIf(ctx, func() bool { return beyond(2) }) })
	if err != nil {
		return fmt.Errorf("wait for a fold: %w", err)
	}
	return nil
}

// wake has the fold loop look at what there is to fold.
func (f *FS) wake() {
	select {
	case f.wakeFold <- struct{}{}:
	default:
	}
}

// admit refuses what would leave no space for n bytes that are about to be written and for the fold that must follow.
// What frees space is never refused, but may begin that fold early.
func (f *FS) admit(ctx context.Context, n int, u urgency) error {
	if err := f.writable(); err != nil {
		return err
	}
	if u == freeing {
		return f.admitFreeing(ctx)
	}
	if enough, err := f.enough(ctx, n); err != nil || enough {
		return err
	}
	if f.futile() {
		return ErrNoSpace
	}
	before := f.pendingSpace()
	if err := f.makeRoom(ctx); err != nil {
		return err
	}
	f.space.setMargin(before)
	if enough, err := f.enough(ctx, n); err != nil || enough {
		return err
	}
	return ErrNoSpace
}

// enough reports whether there is space for n bytes and all that follows from them.
func (f *FS) enough(ctx context.Context, n int) (bool, error) {
	need := f.pendingSpace() + uint64(n) + f.space.floor() + f.roomLack()
	enough, err := f.fits(ctx, need+f.space.getMargin())
	if enough {
		f.space.setMargin(0)
	}
	return enough, err
}

func (f *FS) admitFreeing(ctx context.Context) error {
	if fits, err := f.fits(ctx, f.pendingSpace()); err != nil || fits || f.futile() {
		return err
	}
	if err := f.makeRoom(ctx); err != nil && !isFull(err) {
		return err
	}
	return nil
}

// makeRoom deletes what is superseded, as far as the grace's bounds by space demand, and folds what there is.
func (f *FS) makeRoom(ctx context.Context) error {
	if err := f.writable(); err != nil {
		return err
	}
	err := f.relieve(ctx, "squeeze", f.squeeze)
	f.space.noteTried(f.committed.Load())
	if err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	return nil
}

func (f *FS) squeeze(ctx context.Context) error {
	if err := f.shrink(ctx); err != nil {
		return err
	}
	if err := f.fold(ctx, false); err != nil {
		return err
	}
	return f.shrink(ctx)
}

// shrink deletes what is superseded and the segments that are folded.
func (f *FS) shrink(ctx context.Context) error {
	f.foldMu.Lock()
	defer f.foldMu.Unlock()
	if err := f.dropFolded(ctx); err != nil {
		return err
	}
	return f.reclaim(ctx)
}

// futile reports whether room was made and nothing has happened since that would give more.
func (f *FS) futile() bool {
	g := &f.space
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tried && g.triedAt == f.committed.Load()
}
