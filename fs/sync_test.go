package fs

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"envfs/remote"
)

// watched is a store that knows how much of each object that grows is synced.
type watched struct {
	remote.Local
	mu       sync.Mutex
	appended map[string]int
	synced   map[string]int
	before   func(name string) // called before an append
	after    func(name string) // called after it
	reading  func(name string) // called before a read
	asking   func()            // called before free space is asked for
}

func (w *watched) Space(ctx context.Context) (remote.Space, error) {
	if w.asking != nil {
		w.asking()
	}
	return w.Local.Space(ctx)
}

func (w *watched) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if w.reading != nil {
		w.reading(name)
	}
	return w.Local.ReadAt(ctx, name, p, off)
}

// watch opens the vault of r again, with its store watched.
func (r *rig) watch() *watched {
	r.t.Helper()
	r.close()
	w := &watched{appended: make(map[string]int), synced: make(map[string]int)}
	r.wrap = func(st remote.Local) remote.Local { w.Local = st; return w }
	r.open()
	return w
}

func (w *watched) Create(ctx context.Context, name string) (remote.File, error) {
	f, err := w.Local.Create(ctx, name)
	return &watchedFile{f, w, name}, err
}

// unsynced names the objects that hold bytes which a power loss could take.
func (w *watched) unsynced() (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, n := range w.appended {
		if n > w.synced[name] {
			names = append(names, name)
		}
	}
	return names
}

type watchedFile struct {
	remote.File
	w    *watched
	name string
}

func (f *watchedFile) Append(p []byte) error {
	if f.w.before != nil {
		f.w.before(f.name)
	}
	err := f.File.Append(p)
	f.w.mu.Lock()
	f.w.appended[f.name] += len(p)
	f.w.mu.Unlock()
	if f.w.after != nil {
		f.w.after(f.name)
	}
	return err
}

func (f *watchedFile) Sync() error {
	f.w.mu.Lock()
	n := f.w.appended[f.name]
	f.w.mu.Unlock()
	err := f.File.Sync()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.synced[f.name] = max(f.w.synced[f.name], n)
	return err
}

// Another's sync at any moment of a write must not make this file's own sync believe that its extent is synced.
func TestSyncWhileAnotherSyncs(t *testing.T) {
	for _, moment := range []string{"before", "after"} {
		t.Run(moment+" the append", func(t *testing.T) {
			ctx := t.Context()
			r := newRig(t)
			w := r.watch()
			other := func(name string) {
				if strings.Contains(name, ".x") {
					must(t, r.fs.syncNow(ctx))
				}
			}
			if moment == "before" {
				w.before = other
			} else {
				w.after = other
			}
			ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), "file", 0o644, Cred{}) // so that the other has something to sync
			must(t, err)
			_, err = h.WriteAt(ctx, bytes.Repeat([]byte{1}, 300_000), 0, false)
			must(t, err)
			must(t, h.Sync(ctx))
			if left := w.unsynced(); len(left) > 0 {
				t.Errorf("fsync has returned, but %q is not synced", left)
			}
			h.Close()
			r.fs.Forget(ino, 1)
		})
	}
}
