package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"envfs/blockcrypt"
	"envfs/remote"
)

// kept is what this machine has published since the last fold, and the last root that it knows: segments of the journal.
// The vault does not need them. But if another machine takes the vault over and folds, they may be gone there when what was
// not published here is to be brought back, and a file can have a part in each. They are read instead of those in the
// shared store, too. nil keeps nothing.
type kept struct{ dir string }

func newKept(dir string) (*kept, error) {
	if dir == "" {
		return nil, nil
	}
	return &kept{dir}, os.MkdirAll(filepath.Join(dir, segmentPrefix), 0o700)
}

// segmentPrefix is how names of segments begin.
const segmentPrefix = "journal/"

// keeps reports whether objects of this name may be kept.
func (k *kept) keeps(name string) bool {
	if k == nil {
		return false
	}
	n, err := blockcrypt.ParseName(name)
	return err == nil && n.Kind == blockcrypt.KindSegment
}

func (k *kept) path(name string) string { return filepath.Join(k.dir, filepath.FromSlash(name)) }

// take moves an object here from the state. That it is here need not be durable.
func (k *kept) take(stateDir, name string) error {
	err := os.Rename(filepath.Join(stateDir, filepath.FromSlash(name)), k.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was released before
	}
	return err
}

// put writes an object so that it is there whole or not at all.
func (k *kept) put(name string, data []byte) error {
	f, err := os.CreateTemp(k.dir, ".new-*")
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync() // a name that holds nothing after a power loss would hide what the shared store has
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), k.path(name))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (k *kept) drop(names []string) {
	for _, name := range names {
		if k.keeps(name) {
			os.Remove(k.path(name)) // in the next fold's way it is not
		}
	}
}

// readAt reads like remote.Store's, ErrNotExist if the object is not kept.
func (k *kept) readAt(name string, p []byte, off int64) (int, error) {
	if !k.keeps(name) {
		return 0, remote.ErrNotExist
	}
	f, err := os.Open(k.path(name))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", remote.ErrNotExist, err)
	}
	defer f.Close()
	return f.ReadAt(p, off)
}

func (k *kept) get(name string, limit int64) ([]byte, error) {
	if !k.keeps(name) {
		return nil, remote.ErrNotExist
	}
	f, err := os.Open(k.path(name))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", remote.ErrNotExist, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = remote.ErrNotObject
	}
	return data, err
}

func (k *kept) size(name string) (int64, error) {
	if !k.keeps(name) {
		return 0, remote.ErrNotExist
	}
	st, err := os.Stat(k.path(name))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", remote.ErrNotExist, err)
	}
	return st.Size(), nil
}

// names returns what is kept, by full name.
func (k *kept) names() (all []remote.Info, err error) {
	if k == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(k.path(segmentPrefix))
	for _, e := range entries {
		if info, err := e.Info(); err == nil && k.keeps(segmentPrefix+e.Name()) {
			all = append(all, remote.Info{Name: segmentPrefix + e.Name(), Size: info.Size()})
		}
	}
	return all, err
}

// Keep keeps copies here of these published segments, and of no others: those that the tree does not hold.
func (s *Store) Keep(ctx context.Context, segments []string) error {
	if s.kept == nil {
		return nil
	}
	have, err := s.kept.names()
	if err != nil {
		return fmt.Errorf("keep journal segments: %w", err)
	}
	wanted := make(map[string]bool)
	for _, name := range segments {
		wanted[name] = true
	}
	for _, i := range have {
		if !wanted[i.Name] {
			s.kept.drop([]string{i.Name})
		}
		delete(wanted, i.Name)
	}
	for name := range wanted {
		if _, err := s.state.Size(ctx, name); err == nil {
			continue // released it comes here
		}
		data, err := s.Get(ctx, name, maxSegment)
		if err == nil {
			err = s.kept.put(name, data)
		}
		if err != nil {
			return fmt.Errorf("keep %s: %w", name, err)
		}
	}
	return nil
}

// maxSegment bounds what is kept of one segment.
const maxSegment = 64 << 20

// KeepRoot keeps a root that this machine has written.
func (s *Store) KeepRoot(data []byte) error {
	if s.kept == nil {
		return nil
	}
	if err := s.kept.put(blockcrypt.RootName, data); err != nil {
		return fmt.Errorf("keep root: %w", err)
	}
	return nil
}

// ErrNothingKept says that the root which this machine knew last is not there: nothing tells what it had.
var ErrNothingKept = errors.New("the root that was known last is missing")

// OpenKept opens what this machine had, with the root that it knew last, to read it: what it had not published lies in
// o.State, what it kept in o.Kept. The rest is read from far, which it closes when it is closed.
func OpenKept(far remote.Store, o Options) (*Store, error) {
	root, err := os.ReadFile(filepath.Join(o.Kept, blockcrypt.RootName))
	if err != nil {
		return nil, fmt.Errorf("open what was not published: %w: %w", ErrNothingKept, err)
	}
	s, err := Open(&asKnown{far, root}, o)
	if err == nil {
		s.asKnown = true
	}
	return s, err
}

// asKnown is a shared store as a machine knew it, with the root of then and no other.
type asKnown struct {
	remote.Store
	root []byte
}

func (a *asKnown) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if name == blockcrypt.RootName {
		return a.root, nil
	}
	return a.Store.Get(ctx, name, limit)
}

func (a *asKnown) Size(ctx context.Context, name string) (int64, error) {
	if name == blockcrypt.RootName {
		return int64(len(a.root)), nil
	}
	return a.Store.Size(ctx, name)
}

func (a *asKnown) List(ctx context.Context, prefix string, fn func(remote.Info) error) error {
	return a.Store.List(ctx, prefix, func(i remote.Info) error {
		if strings.HasPrefix(i.Name, blockcrypt.RootName) && i.Name != blockcrypt.RootName { // copies, and what a sync tool left
			return nil
		}
		return fn(i)
	})
}
