package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"

	"envfs/remote"
)

// Bounds of what PutLater has under way.
const (
	maxUploads     = 16
	maxUploadBytes = 32 << 20
)

// Put implements remote.Store. It returns when the shared store has the object.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if grows(name) {
		if _, err := s.state.Size(ctx, name); err == nil {
			return fmt.Errorf("put %s: %w", name, remote.ErrExist)
		}
	}
	return s.far.Put(ctx, name, data)
}

// Replace implements remote.Store.
func (s *Store) Replace(ctx context.Context, name string, old []byte, content func(identity []byte) ([]byte, error)) error {
	return s.far.Replace(ctx, name, old, content)
}

// Delete implements remote.Store.
func (s *Store) Delete(ctx context.Context, names ...string) error {
	var here []string
	for _, name := range names {
		if grows(name) {
			here = append(here, name)
		}
		s.Forget(name)
	}
	if err := s.far.Delete(ctx, names...); err != nil {
		return err
	}
	if err := s.state.Delete(ctx, here...); err != nil {
		return err
	}
	s.kept.drop(here)
	s.gauge.gone(here)
	return nil
}

// PutLater implements remote.Shared. It waits only while too much is under way.
func (s *Store) PutLater(ctx context.Context, name string, data []byte) error {
	return s.later.add(ctx, name, bytes.Clone(data))
}

// Sync implements remote.Store.
func (s *Store) Sync(ctx context.Context) error {
	return errors.Join(s.later.wait(ctx), s.state.Sync(ctx), s.far.Sync(ctx))
}

// uploads puts objects while their owner goes on.
type uploads struct {
	far    remote.Store
	ctx    context.Context // of all of them
	cancel context.CancelFunc
	slots  *semaphore.Weighted
	bytes  *semaphore.Weighted

	mu    sync.Mutex
	batch *batch // since the last Sync
}

// batch is what one Sync waits for.
type batch struct {
	sync.WaitGroup
	mu  sync.Mutex
	err error
}

func newUploads(far remote.Store) *uploads {
	u := &uploads{far: far, slots: semaphore.NewWeighted(maxUploads), bytes: semaphore.NewWeighted(maxUploadBytes), batch: new(batch)}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	return u
}

// close breaks off what is under way.
func (u *uploads) close() { u.cancel() }

func (u *uploads) add(ctx context.Context, name string, data []byte) error {
	weight := min(int64(len(data)), maxUploadBytes)
	if err := u.bytes.Acquire(ctx, weight); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	if err := u.slots.Acquire(ctx, 1); err != nil {
		u.bytes.Release(weight)
		return fmt.Errorf("put %s: %w", name, err)
	}
	u.mu.Lock()
	b := u.batch
	b.Add(1)
	u.mu.Unlock()
	go func() {
		defer b.Done()
		defer u.bytes.Release(weight)
		defer u.slots.Release(1)
		if err := u.far.Put(u.ctx, name, data); err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.err == nil {
				b.err = err
			}
		}
	}()
	return nil
}

// wait returns when all that was added before has been put, with the first error. If ctx ends before, what is under way
// goes on, and the next wait does not know of it: whoever gave up must not rely on these objects.
func (u *uploads) wait(ctx context.Context) error {
	u.mu.Lock()
	b := u.batch
	u.batch = new(batch)
	u.mu.Unlock()
	done := make(chan struct{})
	go func() {
		b.Wait()
		close(done)
	}()
	select {
	case <-done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
