package cache_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"envfs/remote"
	"envfs/remote/cache"
	"envfs/remote/dir"
)

// keeping opens a store that keeps what it has published.
func (p places) keeping(t *testing.T) *cache.Store {
	t.Helper()
	far, err := dir.Open(p.far, dir.Options{})
	must(t, err)
	s, err := cache.Open(far, cache.Options{State: p.state, Cache: p.cache, Kept: p.state + "-kept", StateSize: 1000})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() }) // tests may have closed it
	return s
}

// What is kept counts in the bound of the state, also after opening again, for half of it at most; and it has nobody wait
// where nothing waits to be published.
func TestKeptCounts(t *testing.T) {
	ctx := t.Context()
	p := newPlaces(t)
	s := p.keeping(t)
	create(t, s, segment, make([]byte, 600))
	must(t, s.Publish(ctx, []remote.Info{{Name: segment, Size: 600}}))
	must(t, s.Release(ctx, []string{segment}))
	for range 2 {
		if u := s.Usage(); u.State != 600 {
			t.Errorf("%+v", u)
		}
		must(t, s.Admit(ctx, 5000))
		must(t, s.Close())
		s = p.keeping(t)
	}
	create(t, s, extent, make([]byte, 300))
	must(t, s.Admit(ctx, 200))
	waiting := make(chan error, 1)
	go func() { waiting <- s.Admit(ctx, 201) }()
	for s.Usage().Writers == 0 {
		select {
		case err := <-waiting:
			t.Fatalf("beyond the bound: %v", err)
		default:
		}
	}
	must(t, s.Delete(ctx, segment)) // as a fold does
	must(t, <-waiting)
	if u := s.Usage(); u.State != 300 {
		t.Errorf("%+v", u)
	}
}

// What a crash has left half-written goes with the next writer, of what is kept and of the cache; not with who only
// looks, as the writer may be at work on it.
func TestHalfWritten(t *testing.T) {
	p := newPlaces(t)
	must(t, p.keeping(t).Close())
	at := filepath.Join(p.state+"-kept", ".new-1-1-aaaaaaaaaaaaaaaaaaaaa")
	page := filepath.Join(p.cache, "aa", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0.tmp")
	must(t, os.MkdirAll(filepath.Dir(page), 0o700))
	for _, name := range []string{at, page} {
		must(t, os.WriteFile(name, []byte("half"), 0o600))
	}
	s := p.keeping(t)
	if _, err := os.Stat(at); err != nil {
		t.Errorf("opening removed it: %v", err)
	}
	must(t, s.Local().Lock())
	for _, name := range []string{at, page} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
