package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"envfs/blockcrypt"
	"envfs/remote"
	"envfs/remote/dir"
)

// kept is what this machine has published since the last fold, and the last root that it knows: segments of the journal.
// The vault does not need them. But if another machine takes the vault over and folds, they may be gone there when what was
// not published here is to be brought back, and a file can have a part in each. They are read instead of those in the
// shared store, too. nil keeps nothing.
type kept struct {
	dir.FS
	disk Disk
	at   string

	mu    sync.Mutex
	sizes map[string]int64 // of the segments
	total int64
}

func openKept(disk Disk, at string) (*kept, error) {
	if at == "" {
		return nil, nil
	}
	files, err := disk.At(at)
	if err != nil {
		return nil, err
	}
	err = files.Mkdir(segmentDir)
	if err == nil {
		err = files.SyncDir("")
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, errors.Join(err, disk.Leave(files))
	}
	k := &kept{FS: files, disk: disk, at: at, sizes: make(map[string]int64)}
	all, err := k.names()
	if err != nil {
		return nil, errors.Join(err, disk.Leave(files))
	}
	for _, i := range all {
		k.note(i.Name, i.Size)
	}
	return k, nil
}

// note notes how long a segment is that is kept; 0: it is kept no more.
func (k *kept) note(name string, size int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.total += size - k.sizes[name]
	if k.sizes[name] = size; size == 0 {
		delete(k.sizes, name)
	}
}

// bytes returns how much is kept.
func (k *kept) bytes() int64 {
	if k == nil {
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.total
}

// unfinished is how the names of files begin that are being written.
const unfinished = ".new-"

// tidy removes what a crash has left half-written. Nobody else is at work here.
func (k *kept) tidy() error {
	if k == nil {
		return nil
	}
	entries, err := k.ReadDir("")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, unfinished) {
			continue
		}
		if err := k.Remove(e.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (k *kept) close() error {
	if k == nil {
		return nil
	}
	return k.disk.Leave(k.FS)
}

// segmentDir is where segments lie.
const segmentDir = "journal"

// keeps reports whether objects of this name may be kept.
func (k *kept) keeps(name string) bool {
	if k == nil {
		return false
	}
	n, err := blockcrypt.ParseName(name)
	return err == nil && n.Kind == blockcrypt.KindSegment
}

// take moves an object here from the state. That it is here need not be durable.
func (k *kept) take(stateDir, name string) error {
	err := k.disk.Rename(filepath.Join(stateDir, filepath.FromSlash(name)), filepath.Join(k.at, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was released before
	}
	if err != nil {
		return err
	}
	st, err := k.Stat(name)
	if err == nil {
		k.note(name, st.Size)
	}
	return err
}

// put writes an object so that what is there after a power loss is it or what was there before, whole: without a root that
// can be read nothing of what is here can be brought back.
func (k *kept) put(name string, data []byte) error {
	temp := unfinished + path.Base(name)
	if err := k.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := k.Create(temp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Datasync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = k.Rename(temp, name)
	}
	if err != nil {
		_ = k.Remove(temp) // the first error tells more
	}
	return err
}

func (k *kept) drop(names []string) {
	for _, name := range names {
		if k.keeps(name) {
			_ = k.Remove(name) // in the next fold's way it is not
			k.note(name, 0)
		}
	}
}

// readAt reads like remote.Store's, ErrNotExist if the object is not kept.
func (k *kept) readAt(name string, p []byte, off int64) (int, error) {
	if !k.keeps(name) {
		return 0, remote.ErrNotExist
	}
	f, err := k.Open(name)
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
	data, err := k.ReadFile(name, limit)
	switch {
	case errors.Is(err, syscall.EFBIG):
		err = remote.ErrNotObject
	case err != nil:
		err = fmt.Errorf("%w: %w", remote.ErrNotExist, err)
	}
	return data, err
}

func (k *kept) size(name string) (int64, error) {
	if !k.keeps(name) {
		return 0, remote.ErrNotExist
	}
	st, err := k.Stat(name)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", remote.ErrNotExist, err)
	}
	return st.Size, nil
}

// names returns what is kept, by full name.
func (k *kept) names() (all []remote.Info, err error) {
	if k == nil {
		return nil, nil
	}
	entries, err := k.ReadDir(segmentDir)
	for _, e := range entries {
		if name := segmentDir + "/" + e.Name; k.keeps(name) {
			all = append(all, remote.Info{Name: name, Size: e.Size})
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
		if err == nil {
			s.kept.note(name, int64(len(data)))
		}
		if err != nil {
			return fmt.Errorf("keep %s: %w", name, err)
		}
	}
	if err := s.kept.SyncDir(segmentDir); err != nil { // the vault may have them no more when they are wanted
		return fmt.Errorf("keep journal segments: %w", err)
	}
	return nil
}

// KeptMuch reports whether what is kept is so much of what may lie here that a fold is to make it less.
func (s *Store) KeptMuch() bool { return s.kept.bytes() > s.gauge.limit/muchKept }

// Unkeep lets go of segments that are folded: nothing needs them with the root that was kept last.
func (s *Store) Unkeep(segments []string) { s.kept.drop(segments) }

// maxSegment bounds what is kept of one segment.
const maxSegment = 64 << 20

// KeepRoot keeps a root that this machine has written.
func (s *Store) KeepRoot(data []byte) error {
	if s.kept == nil {
		return nil
	}
	err := s.kept.put(blockcrypt.RootName, data)
	if err == nil {
		err = s.kept.SyncDir("") // before a fold deletes what only an older one needs
	}
	if err != nil {
		return fmt.Errorf("keep root: %w", err)
	}
	return nil
}

// ErrNothingKept says that the root which this machine knew last is not there: nothing tells what it had.
var ErrNothingKept = errors.New("the root that was known last is missing")

// OpenKept opens what this machine had, with the root that it knew last, to read it: what it had not published lies in
// o.State, what it kept in o.Kept. The rest is read from far, which it closes when it is closed.
func OpenKept(far remote.Store, o Options) (*Store, error) {
	kept, err := openKept(o.disk(), o.Kept)
	if err != nil {
		return nil, fmt.Errorf("open what was not published: %w: %w", ErrNothingKept, err)
	}
	root, err := kept.ReadFile(blockcrypt.RootName, blockcrypt.MaxRoot)
	if err = errors.Join(err, kept.close()); err != nil {
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
