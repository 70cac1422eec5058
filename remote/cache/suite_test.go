package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"envfs/remote"
	"envfs/remote/cache"
	"envfs/remote/dir"
	"envfs/remote/remotetest"
)

// places are where one store lies.
type places struct{ far, state, cache string }

func newPlaces(t *testing.T) places {
	t.Helper()
	d := t.TempDir()
	p := places{filepath.Join(d, "far"), filepath.Join(d, "state"), filepath.Join(d, "cache")}
	if err := os.Mkdir(p.far, 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

// open opens a store whose shared one is a directory, seen through wrap if that is given.
func (p places) open(t *testing.T, size int64, wrap func(remote.Store) remote.Store) *cache.Store {
	t.Helper()
	var far remote.Store
	far, err := dir.Open(p.far, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		far = wrap(far)
	}
	s, err := cache.Open(far, cache.Options{State: p.state, Cache: p.cache, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // tests may have closed it
	return s
}

func TestSuite(t *testing.T) {
	for _, size := range []int64{0, 300_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			remotetest.RunLocal(t, func(t *testing.T) func() remote.Local {
				p := newPlaces(t)
				return func() remote.Local { return p.open(t, size, nil).Local() }
			})
		})
	}
}

const (
	segment = "journal/1-1-aaaaaaaaaaaaaaaaaaaaa"
	extent  = "files/aa/aaaaaaaaaaaaaaaaaaaaaaaaaa.x1-aaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaaaa"
	header  = "files/aa/aaaaaaaaaaaaaaaaaaaaaaaaaa.h1-aaaaaaaaaaaaaaaaaaaaa"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes an object of the state.
func create(t *testing.T, s *cache.Store, name string, data []byte) {
	t.Helper()
	f, err := s.Local().Create(t.Context(), name)
	must(t, err)
	must(t, errors.Join(f.Append(data), f.Sync(), f.Close(), s.Local().Sync(t.Context())))
}

func has(t *testing.T, s remote.Store, name string, want []byte) {
	t.Helper()
	got, err := s.Get(t.Context(), name, 1<<30)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
	}
	p := make([]byte, len(want)+1)
	n, err := s.ReadAt(t.Context(), name, p, 0)
	if err != io.EOF || !bytes.Equal(p[:n], want) {
		t.Errorf("read %s: %d bytes, %v; want %d", name, n, err, len(want))
	}
}

// What was made here is seen here at once and by others when it is published, as far as it is to be.
func TestPublish(t *testing.T) {
	ctx := t.Context()
	p := newPlaces(t)
	s := p.open(t, 0, nil)
	other := places{p.far, p.state + "2", p.cache + "2"}.open(t, 0, nil)
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	create(t, s, extent, data)
	create(t, s, segment, data[:1000])
	has(t, s, extent, data)
	if _, err := other.Size(ctx, extent); !errors.Is(err, remote.ErrNotExist) {
		t.Errorf("before it is published: %v", err)
	}
	named := []remote.Info{{Name: extent, Size: 400_000}, {Name: segment, Size: 1000}}
	for range 2 { // the second time it is there already
		must(t, s.Publish(ctx, named))
		has(t, other, extent, data[:400_000])
		has(t, other, segment, data[:1000])
		has(t, s, extent, data)
	}
	if err := s.Publish(ctx, []remote.Info{{Name: extent, Size: 300_000}}); !errors.Is(err, remote.ErrExist) {
		t.Errorf("published with another length: %v", err)
	}
	here, err := s.Unpublished(ctx)
	if err != nil || len(here) != 2 {
		t.Errorf("in the state: %v, %v", here, err)
	}
	must(t, s.Release(ctx, []string{extent, segment}))
	must(t, s.Release(ctx, []string{extent}))
	must(t, s.Publish(ctx, named)) // released is published
	has(t, s, extent, data[:400_000])
	here, err = s.Unpublished(ctx)
	if err != nil || len(here) != 0 {
		t.Errorf("in the state: %v, %v", here, err)
	}
	if err := s.Publish(ctx, []remote.Info{{Name: header, Size: 1}}); err == nil {
		t.Error("published what is not there")
	}
	create(t, s, "journal/1-2-aaaaaaaaaaaaaaaaaaaaa", data[:10])
	if err := s.Publish(ctx, []remote.Info{{Name: "journal/1-2-aaaaaaaaaaaaaaaaaaaaa", Size: 11}}); err == nil {
		t.Error("published more than there is")
	}
}

// What is published or released or neither is found again by the next process, listed once.
func TestReopen(t *testing.T) {
	p := newPlaces(t)
	s := p.open(t, 0, nil)
	create(t, s, extent, []byte("extent"))
	create(t, s, segment, []byte("segment"))
	must(t, s.Publish(t.Context(), []remote.Info{{Name: segment, Size: 7}}))
	must(t, s.Close())
	s = p.open(t, 0, nil)
	has(t, s, extent, []byte("extent"))
	has(t, s, segment, []byte("segment"))
	var names []string
	must(t, s.List(t.Context(), "", func(i remote.Info) error {
		names = append(names, i.Name)
		return nil
	}))
	slices.Sort(names)
	if !slices.Equal(names, []string{extent, segment}) {
		t.Errorf("listed: %q", names)
	}
	must(t, s.Delete(t.Context(), segment, extent))
	if got, err := os.ReadDir(filepath.Join(p.state, "journal")); err != nil || len(got) != 0 {
		t.Errorf("in the state: %v, %v", got, err)
	}
}

// counted counts what is asked of a store, and can make it fail.
type counted struct {
	remote.Store
	reads atomic.Int64
	bytes atomic.Int64 // that were asked for
	fail  func(op, name string) error
}

func (c *counted) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	c.reads.Add(1)
	c.bytes.Add(int64(len(p)))
	if c.fail != nil {
		if err := c.fail("read", name); err != nil {
			return 0, err
		}
	}
	return c.Store.ReadAt(ctx, name, p, off)
}

func (c *counted) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	c.reads.Add(1)
	return c.Store.Get(ctx, name, limit)
}

func (c *counted) Put(ctx context.Context, name string, data []byte) error {
	if c.fail != nil {
		if err := c.fail("put", name); err != nil {
			return err
		}
	}
	return c.Store.Put(ctx, name, data)
}

// What was fetched is not fetched again, also by the next process; those who want it at once share a request; and the
// cache may be deleted or damaged at any time.
func TestFetchedOnce(t *testing.T) {
	ctx := t.Context()
	p := newPlaces(t)
	data := bytes.Repeat([]byte("0123456789"), 20_000)
	maker := p.open(t, 0, nil)
	must(t, maker.Put(ctx, header, data))
	var c *counted
	wrap := func(s remote.Store) remote.Store { c = &counted{Store: s}; return c }
	s := p.open(t, 0, wrap)
	check := func(what string, reads int64) {
		t.Helper()
		before := c.reads.Load()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { has(t, s, header, data) })
		}
		wg.Wait()
		if n := c.reads.Load() - before; n > reads {
			t.Errorf("%s: %d requests, want at most %d", what, n, reads)
		}
	}
	const all = 3 // whole, and its two pages
	check("first", all)
	check("again", 0)
	must(t, s.Close())
	s = p.open(t, 0, wrap)
	check("by the next process", 0)
	must(t, os.RemoveAll(p.cache))
	check("after it was deleted", 8*all) // who finds it gone does not know of the others
	check("again", 0)
	must(t, s.Close()) // it puts what was fetched in a row into the cache behind who reads it
	must(t, filepath.WalkDir(p.cache, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		content[len(content)/2] ^= 1
		return errors.Join(err, os.WriteFile(path, content, 0o600))
	}))
	s = p.open(t, 0, wrap)
	check("after it was damaged", 8*all)
	must(t, s.Delete(ctx, header))
	if _, err := s.Get(ctx, header, 1<<20); !errors.Is(err, remote.ErrNotExist) {
		t.Errorf("after it was deleted from the store: %v", err)
	}
}

// An object that is read from one page to the next is fetched in few requests, also by many at once; one that is read here
// and there, in small ones.
func TestSequential(t *testing.T) {
	ctx := t.Context()
	p := newPlaces(t)
	data := make([]byte, 8<<20+1234)
	for i := range data {
		data[i] = byte(i * 31 >> 7)
	}
	must(t, p.open(t, 0, nil).Put(ctx, header, data))
	var c *counted
	s := p.open(t, 0, func(s remote.Store) remote.Store { c = &counted{Store: s}; return c })
	read := func(off int64, n int) {
		t.Helper()
		got := make([]byte, n)
		if _, err := s.ReadAt(ctx, header, got, off); err != nil || !bytes.Equal(got, data[off:][:n]) {
			t.Errorf("read %d at %d: %v", n, off, err)
		}
	}
	const step = 100_000
	for off := int64(0); off+step <= int64(len(data)); off += 4 * step {
		var wg sync.WaitGroup
		for i := range int64(4) {
			if at := off + i*step; at+step <= int64(len(data)) {
				wg.Go(func() { read(at, step) })
			}
		}
		wg.Wait()
	}
	if n := c.reads.Load(); n > 12 {
		t.Errorf("%d requests for 8 MiB in a row", n)
	}
	must(t, s.Close())
	must(t, os.RemoveAll(p.cache))
	s = p.open(t, 0, func(s remote.Store) remote.Store { c = &counted{Store: s}; return c })
	for _, off := range []int64{5 << 20, 1 << 20, 7 << 20, 3 << 20} {
		read(off, 4096)
	}
	if n := c.bytes.Load(); n > 4*200_000 {
		t.Errorf("%d bytes were asked for by 4 small reads here and there", n)
	}
}

// Of an extent that is read here and there, the whole is fetched after a while, and once.
func TestHereAndThere(t *testing.T) {
	p := newPlaces(t)
	data := make([]byte, 4<<20+30_000)
	for i := range data {
		data[i] = byte(i * 31 >> 7)
	}
	must(t, p.open(t, 0, nil).Put(t.Context(), extent, data))
	var c *counted
	s := p.open(t, 0, func(s remote.Store) remote.Store { c = &counted{Store: s}; return c })
	for i := range 500 {
		off := i * 7919 * 4096 % (len(data) - 4096)
		got := make([]byte, 4096)
		if _, err := s.ReadAt(t.Context(), extent, got, int64(off)); err != nil || !bytes.Equal(got, data[off:][:4096]) {
			t.Errorf("at %d: %v", off, err)
		}
	}
	if n := c.reads.Load(); n > 12 { // eight pages before the whole at most, and where one happens to follow another
		t.Errorf("%d requests", n)
	}
}

// The cache holds no more than it may.
func TestBounded(t *testing.T) {
	ctx := t.Context()
	p := newPlaces(t)
	const limit = 1 << 20
	s := p.open(t, limit, nil)
	data := make([]byte, 100_000)
	for i := range 50 {
		name := fmt.Sprintf("damaged/%d", i)
		must(t, s.Put(ctx, name, data))
		has(t, s, name, data)
	}
	must(t, s.Close())
	var size int64
	must(t, filepath.WalkDir(p.cache, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		i, err := d.Info()
		size += i.Size()
		return err
	}))
	if size > limit || size < limit/2 {
		t.Errorf("the cache holds %d bytes, may hold %d", size, limit)
	}
}

// What is put later is there after Sync, which returns the errors of what was put since the last one.
func TestPutLater(t *testing.T) {
	ctx := t.Context()
	p := newPlaces(t)
	var c *counted
	s := p.open(t, 0, func(s remote.Store) remote.Store { c = &counted{Store: s}; return c })
	data := make([]byte, 1000)
	for i := range 200 {
		must(t, s.PutLater(ctx, fmt.Sprintf("damaged/%d", i), data))
	}
	must(t, s.Sync(ctx))
	for i := range 200 {
		has(t, s, fmt.Sprintf("damaged/%d", i), data)
	}
	sorry := errors.New("sorry")
	c.fail = func(_, name string) error {
		if name == "damaged/a" {
			return sorry
		}
		return nil
	}
	must(t, s.PutLater(ctx, "damaged/a", data))
	must(t, s.PutLater(ctx, "damaged/b", data))
	if err := s.Sync(ctx); !errors.Is(err, sorry) {
		t.Errorf("sync: %v", err)
	}
	must(t, s.Sync(ctx))
	must(t, s.PutLater(ctx, "damaged/b", data))
	if err := s.Sync(ctx); !errors.Is(err, remote.ErrExist) {
		t.Errorf("sync after putting what exists: %v", err)
	}
}
