package dir

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"envfs/remote"
)

// writebackStep is how many bytes are appended before the kernel is asked to begin writing them, so that a later sync
// does not wait for all of them.
const writebackStep = 1 << 20

// appendFile is a remote.File.
type appendFile struct {
	name string
	f    File

	// Of Append alone.
	end     int64
	started int64 // writeback was asked for up to here
	room    int64 // reserved up to here
	bad     error // of a failed Append

	mu      sync.Mutex
	failed  error // of a failed Sync
	closing sync.Once
}

// Create implements remote.Local.
func (s *Store) Create(ctx context.Context, name string) (remote.File, error) {
	f, err := s.create(ctx, name)
	if err != nil {
		return nil, fail("create", name, err, true)
	}
	return &appendFile{name: name, f: f}, nil
}

// Append implements remote.File.
func (a *appendFile) Append(p []byte) error {
	if a.bad != nil {
		return a.bad
	}
	if err := writeAll(a.f, p, a.end); err != nil {
		a.bad = fail("append to", a.name, err, true)
		return a.bad
	}
	a.end += int64(len(p))
	if n := a.end - a.started; n >= writebackStep {
		a.f.Writeback(a.started, n)
		a.started = a.end
	}
	return nil
}

// Reserve implements remote.File.
func (a *appendFile) Reserve(length int64) error {
	if a.bad != nil {
		return a.bad
	}
	if length <= max(a.room, a.end) {
		return nil
	}
	err := a.f.Preallocate(length)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		err = remote.ErrUnsupported
	}
	if err != nil {
		return fail("reserve space for", a.name, err, true)
	}
	a.room = length
	return nil
}

// Sync implements remote.File. Once it has failed it always fails. One goes to the system at a time, as the kernel
// reports a failed write to one of them only.
func (a *appendFile) Sync() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed == nil {
		a.failed = fail("sync", a.name, a.f.Datasync(), true)
	}
	return a.failed
}

// Close implements remote.File.
func (a *appendFile) Close() (err error) {
	a.closing.Do(func() {
		if a.room > a.end && a.bad == nil {
			err = a.f.Truncate(a.end) // to the length it has: gives back what lies behind
		}
		err = fail("close", a.name, errors.Join(err, a.f.Close()), true)
	})
	return err
}
