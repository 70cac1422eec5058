package fs

import (
	"context"

	"envfs/remote"
)

// The ballast is space held back for the fold that makes a full disk less full, since other programs fill it too: up to
// ballastSize bytes, at most 1 % of the disk. What the journal of removals needs is reserved in the journal itself.
const ballastSize = 64 << 20

// holdBack holds the ballast back, if there is plenty of space. foldMu is held.
func (f *FS) holdBack(ctx context.Context) {
	r, ok := f.store.(remote.Reserver)
	if !ok || f.opts.Manual || f.ballast {
		return
	}
	free, total, err := f.freeSpace(ctx, 0)
	size := min(ballastSize, total/100)
	if err != nil || size == 0 || free < 4*size+f.pendingSpace() {
		return
	}
	if err := r.Reserve(int64(size)); err != nil {
		f.logger.Warn("no space is held back for a full disk", "cause", err)
		return
	}
	f.ballast = true
}

// giveBack gives the ballast back: if the next fold may need it, or (always) at the end, so that a vault at rest is its
// objects alone. foldMu is held.
func (f *FS) giveBack(ctx context.Context, always bool) {
	r, ok := f.store.(remote.Reserver)
	if !ok || !f.ballast {
		return
	}
	if !always {
		if free, _, err := f.freeSpace(ctx, 0); err != nil || free >= f.pendingSpace()+f.space.floor() {
			return
		}
	}
	if err := r.Release(); err != nil {
		f.logger.Warn("space held back cannot be given back", "cause", err)
		return
	}
	f.ballast = false
}
