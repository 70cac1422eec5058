package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"envfs/remote"
)

// openObject opens an object for reading, past the cache.
func (s *Store) openObject(ctx context.Context, name string) (File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := remote.CheckReadName(name); err != nil {
		return nil, err
	}
	return s.fs.Open(name)
}

// ReadAt implements remote.Store. Descriptors of the objects read last are kept, so that an object which another
// process removes may be read for a while yet.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	n, err := s.readAt(ctx, name, p, off)
	if err == io.EOF {
		return n, err
	}
	return n, fail("read", name, err, false)
}

func (s *Store) readAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if remote.IsReplaced(name) || remote.CheckName(name) != nil {
		f, err := s.openObject(ctx, name)
		if err != nil {
			return 0, err
		}
		defer f.Close() // read-only
		return f.ReadAt(p, off)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f, err := s.cache.acquire(name)
	if err != nil {
		return 0, err
	}
	defer s.cache.release(f)
	return f.ReadAt(p, off)
}

// Get implements remote.Store.
func (s *Store) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	data, err := s.get(ctx, name, limit)
	return data, fail("get", name, err, false)
}

func (s *Store) get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := remote.CheckReadName(name); err != nil {
		return nil, err
	}
	data, err := s.fs.ReadFile(name, limit)
	if errors.Is(err, syscall.EFBIG) {
		err = fmt.Errorf("%w: it has more than the %d bytes that are expected", remote.ErrNotObject, limit)
	}
	return data, err
}

// Size implements remote.Store.
func (s *Store) Size(ctx context.Context, name string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err := remote.CheckReadName(name)
	var st Stat
	if err == nil {
		st, err = s.fs.Stat(name)
	}
	if err == nil && !st.Mode.IsRegular() {
		err = errNotRegular
	}
	return st.Size, fail("size of", name, err, false)
}

// List implements remote.Store. Only regular files are listed, and none of the temporary ones of Replace. Directories
// that are not the vault's are passed over if they cannot be read.
func (s *Store) List(ctx context.Context, prefix string, fn func(remote.Info) error) error {
	start := parentOf(prefix)
	if err := remote.CheckPrefix(prefix); err != nil {
		return fail("list", prefix, err, false)
	}
	l := lister{s: s, prefix: prefix, fn: fn}
	err := l.dir(ctx, start, strings.Count(start, "/"))
	if l.stopped {
		return err
	}
	if errors.Is(err, syscall.ENOENT) && start != "" {
		_, err = s.fs.ReadDir("") // nothing has that prefix, unless all is gone
	}
	return fail("list", prefix, err, false)
}

type lister struct {
	s       *Store
	prefix  string
	fn      func(remote.Info) error
	stopped bool // the error is fn's
}

func (l *lister) dir(ctx context.Context, dir string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := l.s.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name
		if dir != "" {
			name = dir + "/" + name
		}
		switch {
		case e.Mode.IsDir():
			if depth >= remote.MaxDepth || !strings.HasPrefix(name+"/", l.prefix) {
				continue
			}
			err := l.dir(ctx, name, depth+1)
			if l.stopped {
				return err
			}
			if err != nil && !errors.Is(err, syscall.ENOENT) && (isOurs(name) || !errors.Is(err, syscall.EACCES)) {
				return err
			}
		case !e.Mode.IsRegular(), dir == "" && isTemp(e.Name), !strings.HasPrefix(name, l.prefix):
		default:
			if err := l.fn(remote.Info{Name: name, Size: e.Size}); err != nil {
				l.stopped = true
				return err
			}
		}
	}
	return nil
}

// isOurs reports whether the directory name may hold a vault's objects.
func isOurs(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	switch top {
	case "keys", "domains", "roots", "journal", "folds", "dirs", "files", "audit", "damaged":
		return true
	}
	return false
}
