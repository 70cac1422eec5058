package cache_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"envfs/remote"
)

// Of an extent any part can be read from memory and from the cache's files, also by the next process. It is its reader who
// finds damage: what is read after Forget is fetched anew. What a crash has torn off is taken for nothing.
func TestExtentPages(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	p := newPlaces(t)
	data := make([]byte, 1_000_001)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	maker := p.open(t, 0, nil)
	must(t, maker.Put(t.Context(), extentNo(0), data))
	must(t, maker.Close())
	var c *counted
	wrap := func(s remote.Store) remote.Store { c = &counted{Store: s}; return c }
	s := p.open(t, 0, wrap)
	read := func(what string) {
		t.Helper()
		for range 200 {
			off := rng.IntN(len(data))
			got := make([]byte, 1+rng.IntN(min(300_000, len(data)-off)))
			if n, err := s.ReadAt(t.Context(), extentNo(0), got, int64(off)); n != len(got) || err != nil || !bytes.Equal(got, data[off:][:n]) {
				t.Fatalf("%s (seed %d): read %d bytes at %d: %d, %v", what, seed, len(got), off, n, err)
			}
		}
	}
	view := func(what string, want bool) {
		t.Helper()
		p, release, ok := s.View(t.Context(), extentNo(0), 123_456, 300_000)
		if ok != want {
			t.Fatalf("%s: in memory: %v", what, ok)
		}
		if ok {
			s.Forget(extentNo(0)) // who looks at it may go on
			if !bytes.Equal(p, data[123_456:][:300_000]) {
				t.Errorf("%s: other bytes are in memory", what)
			}
			release()
		}
	}
	view("nothing was fetched", false)
	s.Ahead([]remote.Info{{Name: extentNo(0), Size: int64(len(data))}})
	view("on its way", true)
	s.Ahead([]remote.Info{{Name: extentNo(0), Size: int64(len(data))}})
	read("fetched in a row")
	for what, part := range map[string][2]int64{"behind the end": {990_000, 20_000}, "before the beginning": {-1, 10}, "nothing": {0, 0}} {
		if _, _, ok := s.View(t.Context(), extentNo(0), part[0], int(part[1])); ok {
			t.Errorf("%s: it is in memory", what)
		}
	}
	files := func(change func(path string, size int64) error) {
		t.Helper()
		must(t, s.Close())
		must(t, filepath.WalkDir(p.cache, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			return change(path, info.Size())
		}))
		s = p.open(t, 0, wrap)
	}
	kept := 0
	files(func(_ string, size int64) error { kept++; return nil })
	if kept != 1 {
		t.Errorf("it is kept in %d files", kept)
	}
	read("by the next process")
	if n := c.reads.Load(); n != 0 {
		t.Errorf("%d requests for what is kept", n)
	}

	files(func(path string, size int64) error { return os.WriteFile(path, make([]byte, size), 0o600) })
	got := make([]byte, 10)
	if _, err := s.ReadAt(t.Context(), extentNo(0), got, 500); err != nil || bytes.Equal(got, data[500:510]) || !s.Forget(extentNo(0)) {
		t.Errorf("the damage is not there: %v", err)
	}
	read("after damage")
	files(func(path string, size int64) error { return os.Truncate(path, 0) })
	read("after all was torn off")
	if n := c.reads.Load(); n == 0 {
		t.Error("no requests for what is gone")
	}
}

// held answers reads when it is let.
type held struct {
	remote.Store
	got chan struct{} // told when there is an answer
	let chan struct{}
}

func (h *held) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	n, err := h.Store.ReadAt(ctx, name, p, off)
	h.got <- struct{}{}
	<-h.let
	return n, err
}

// A request that outlasts its reader writes nothing to a cache that is closed, whose directory may be gone or another's.
func TestClosed(t *testing.T) {
	p := newPlaces(t)
	maker := p.open(t, 0, nil)
	must(t, maker.Put(t.Context(), header, []byte("something")))
	must(t, maker.Close())
	h := &held{got: make(chan struct{}), let: make(chan struct{})}
	s := p.open(t, 0, func(far remote.Store) remote.Store { h.Store = far; return h })
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := s.ReadAt(ctx, header, make([]byte, 3), 0)
		failed <- err
	}()
	<-h.got
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("read: %v", err)
	}
	must(t, s.Close())
	must(t, os.RemoveAll(p.cache))
	before := runtime.NumGoroutine()
	close(h.let)
	for runtime.NumGoroutine() >= before {
		runtime.Gosched()
	}
	if _, err := os.Stat(p.cache); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cache is back: %v", err)
	}
}
