// Package dir keeps a vault's objects as files in a local directory, each at its full name below it. Files have mode
// 0600, directories 0700. Nothing is assumed of the file system but what POSIX promises (see FS), through which alone
// the package works, so that memfs can stand in for it and lose power.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"envfs/blockcrypt"
	"envfs/remote"
)

const (
	cachedFiles = 256 // descriptors kept open for reading
	parallel    = 16  // system calls at once in Sync and Settle
)

// Options of Open and Create.
type Options struct {
	// FS is the file system to work on, as seen from the store's directory. If nil, the real one.
	FS FS

	// ReadOnly refuses everything that would change the store, with ErrReadOnly.
	ReadOnly bool
}

// Store is a remote.Local in a directory.
type Store struct {
	fs       FS
	owned    io.Closer // fs, if the store opened it
	location string
	readOnly bool
	uuid     []byte
	dev      uint64

	cache   *fdCache
	pending *pending
	made    madeDirs

	replacing sync.Mutex // held by Replace

	lockMu sync.Mutex
	lock   io.Closer
}

var _ remote.Local = (*Store)(nil)

// Open opens the store in the directory at path. It returns an error that wraps remote.ErrNotExist if there is none.
func Open(path string, opts Options) (*Store, error) {
	s := &Store{fs: opts.FS, location: path, readOnly: opts.ReadOnly}
	if s.fs == nil {
		location, err := locate(path)
		if err != nil {
			return nil, fail("open store", path, errno(err), false)
		}
		osfs, err := OpenOS(location)
		if err != nil {
			return nil, fail("open store", path, errno(err), false)
		}
		s.fs, s.owned, s.location = osfs, osfs, location
	}
	if err := s.init(); err != nil {
		if s.owned != nil {
			_ = s.owned.Close() // the first error tells more
		}
		return nil, fail("open store", path, err, false)
	}
	return s, nil
}

// locate returns the one spelling of a directory's path.
func locate(path string) (string, error) {
	if path == "" {
		return "", syscall.ENOENT
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

func (s *Store) init() error {
	st, err := s.fs.Stat("")
	if err != nil {
		return err
	}
	s.dev = st.Dev
	if s.uuid, err = s.fs.UUID(); err != nil {
		return fmt.Errorf("identify the file system: %w", err)
	}
	s.cache = newFDCache(s.fs.Open, cachedFiles)
	s.pending = newPending(s.fs)
	s.made.names = make(map[string]bool)
	return nil
}

// Create is Open, but makes the directory (mode 0700) if it is missing. The directory above it must exist. The new
// directory's name is durable when Create returns.
func Create(path string, opts Options) (*Store, error) {
	if opts.FS != nil {
		return Open(path, opts)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fail("create store", path, err, true)
	}
	err = os.Mkdir(abs, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fail("create store", path, errno(err), true)
	}
	made := err == nil
	// Also if it is there already: whoever made it may have been cut off before it was durable.
	if err := syncHostDir(filepath.Dir(abs)); err != nil && (made || !errors.Is(err, fs.ErrPermission)) {
		return nil, fail("create store", path, errno(err), true)
	}
	return Open(path, opts)
}

func syncHostDir(path string) error {
	d, err := OpenOS(path)
	if err != nil {
		return err
	}
	return errors.Join(d.SyncDir(""), d.Close())
}

// Lock implements remote.Local. A store that is locked may be locked again by the same Store.
func (s *Store) Lock() error {
	if s.readOnly {
		return fail("lock store", s.location, remote.ErrReadOnly, true)
	}
	s.lockMu.Lock()
	defer s.lockMu.Unlock()
	if s.lock != nil {
		return nil
	}
	lock, err := s.fs.Lock()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = remote.ErrInUse
	}
	if err != nil {
		return fail("lock store", s.location, err, false)
	}
	if err := s.removeTemps(); err != nil {
		_ = lock.Close() // the first error tells more
		return fail("lock store", s.location, err, true)
	}
	s.lock = lock
	return nil
}

// removeTemps removes what a Replace that was cut off has left, and what was reserved.
func (s *Store) removeTemps() error {
	s.replacing.Lock() // our own is none of these
	defer s.replacing.Unlock()
	entries, err := s.fs.ReadDir("")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isTemp(e.Name) || !e.Mode.IsRegular() {
			continue
		}
		if err := s.fs.Remove(e.Name); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("remove %s: %w", e.Name, err)
		}
	}
	return nil
}

// Identity implements remote.Store: file system, inode and birth time of the root object.
func (s *Store) Identity(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st, err := s.fs.Stat(blockcrypt.RootName)
	if err == nil && !st.Mode.IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		return nil, fail("identify", blockcrypt.RootName, err, false)
	}
	return s.identity(st), nil
}

// Space implements remote.Store.
func (s *Store) Space(ctx context.Context) (remote.Space, error) {
	if err := ctx.Err(); err != nil {
		return remote.Space{}, err
	}
	space, err := s.fs.Space()
	return space, fail("statfs", s.location, err, false)
}

// Location implements remote.Store: the directory's absolute path without symbolic links.
func (s *Store) Location() string { return s.location }

// Close implements remote.Store. Files from Create stay open.
func (s *Store) Close() error {
	s.cache.clear()
	s.pending.close()
	s.lockMu.Lock()
	defer s.lockMu.Unlock()
	var errs []error
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	if s.owned != nil {
		errs = append(errs, s.owned.Close())
	}
	return fail("close store", s.location, errors.Join(errs...), false)
}
