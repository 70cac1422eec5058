package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"envfs/remote"
)

// Put implements remote.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	return fail("put", name, s.put(ctx, name, data), true)
}

func (s *Store) put(ctx context.Context, name string, data []byte) error {
	f, err := s.create(ctx, name)
	if err != nil {
		return err
	}
	if err := writeAll(f, data, 0); err != nil {
		// What is torn frees its space, if it can.
		return errors.Join(err, f.Close(), ignoreMissing(s.fs.Remove(name)))
	}
	return s.pending.addFile(f)
}

// create makes the file of an object, and its directory if that is missing.
func (s *Store) create(ctx context.Context, name string) (File, error) {
	if err := s.checkWrite(ctx, name); err != nil {
		return nil, err
	}
	if remote.IsReplaced(name) {
		return nil, errReplaced
	}
	dir := parentOf(name)
	if err := s.makeDir(dir); err != nil {
		return nil, err
	}
	f, err := s.fs.Create(name)
	if errors.Is(err, syscall.ENOENT) { // somebody removed the directory
		s.made.forget(dir)
		if err := s.makeDir(dir); err != nil {
			return nil, err
		}
		f, err = s.fs.Create(name)
	}
	if err != nil {
		return nil, err
	}
	s.pending.addDir(dir)
	return f, nil
}

func (s *Store) checkWrite(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.readOnly {
		return remote.ErrReadOnly
	}
	return remote.CheckName(name)
}

// Delete implements remote.Store. It tries all names and returns the first error.
func (s *Store) Delete(ctx context.Context, names ...string) error {
	var first error
	for _, name := range names {
		err := s.checkWrite(ctx, name)
		if err == nil {
			err = ignoreMissing(s.fs.Remove(name))
			s.cache.drop(name)
		}
		if first == nil {
			first = fail("delete", name, err, true)
		}
	}
	return first
}

func ignoreMissing(err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// writeAll writes p at off; less than all is an error.
func writeAll(f File, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := f.WriteAt(p, off)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

// madeDirs are the directories that this Store has made sure of.
type madeDirs struct {
	mu    sync.Mutex
	names map[string]bool
}

func (m *madeDirs) forget(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.names, dir)
}

// makeDir makes a directory and those above it, and has the next Sync make their names durable: also of those that
// exist, as whoever made them may have been cut off before that.
func (s *Store) makeDir(dir string) error {
	s.made.mu.Lock()
	defer s.made.mu.Unlock()
	return s.makeDirLocked(dir)
}

func (s *Store) makeDirLocked(dir string) error {
	if dir == "" || s.made.names[dir] {
		return nil
	}
	parent := parentOf(dir)
	if err := s.makeDirLocked(parent); err != nil {
		return err
	}
	err := s.fs.Mkdir(dir)
	if errors.Is(err, syscall.ENOENT) && parent != "" { // removed by somebody
		delete(s.made.names, parent)
		if err := s.makeDirLocked(parent); err != nil {
			return err
		}
		err = s.fs.Mkdir(dir)
	}
	if errors.Is(err, syscall.EEXIST) {
		err = s.adoptDir(dir)
	}
	if err != nil {
		return err
	}
	s.pending.addDir(parent)
	s.made.names[dir] = true
	return nil
}

// adoptDir looks at a directory that was there before.
func (s *Store) adoptDir(dir string) error {
	st, err := s.fs.Stat(dir)
	if err != nil {
		return err
	}
	if !st.Mode.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if st.Dev != s.dev {
		s.pending.noSyncFS() // a file system of its own, which syncfs would not reach
	}
	return nil
}
