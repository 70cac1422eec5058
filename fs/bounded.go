package fs

import (
	"context"
	"time"

	"envfs/remote"
)

// waitTurn returns when n bytes more may wait here to be published, for who is about to write and holds no lock. It
// ends with ctx; ErrNoSpace: the shared store has been away for too long.
func (f *FS) waitTurn(ctx context.Context, n int) error {
	if b, ok := f.shared.(remote.Bounded); ok {
		return b.Admit(ctx, int64(n))
	}
	return nil
}

// relieve does work that an operation cannot do without, a fold, and for which a shared store is needed. If that has been
// away for too long the operation is refused with ErrNoSpace; the work goes on, and others who need it wait for the same.
// The caller holds no lock that folding needs.
func (f *FS) relieve(ctx context.Context, name string, work func(context.Context) error) error {
	b, ok := f.shared.(remote.Bounded)
	if !ok {
		return work(context.WithoutCancel(ctx))
	}
	done := make(chan error, 1)
	result := f.relief.DoChan(name, func() (any, error) { return nil, work(context.WithoutCancel(ctx)) })
	go func() { done <- (<-result).Err }()
	return b.Await(ctx, done)
}

// noteCommit remembers when the first of what waits to be published was committed.
func (f *FS) noteCommit() {
	if f.shared != nil && f.oldestWait.Load() == 0 {
		f.oldestWait.CompareAndSwap(0, f.clock.Now().UnixNano())
	}
}

// notePublished forgets that, as all up to a batch is published. What was committed behind it was after since.
func (f *FS) notePublished(batch uint64, since time.Time) {
	f.oldestWait.Store(0)
	if f.committed.Load() != batch { // in this order, as a commit counts up before it looks
		f.oldestWait.CompareAndSwap(0, since.UnixNano())
	}
}

// waitSince returns since when something has waited to be published; zero if nothing does.
func (f *FS) waitSince() time.Time {
	if n := f.oldestWait.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}
