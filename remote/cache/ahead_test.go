package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"envfs/remote"
	"envfs/remote/cache"
)

// extentNo is the name of one of several extents, headerNo that of a header.
func extentNo(i int) string { return extent[:len(extent)-2] + string(rune('a'+i)) + "a" }
func headerNo(i int) string {
	return header[:len(header)-3] + string(rune('a'+i/26)) + string(rune('a'+i%26)) + "a"
}

// settled waits until no request has come for a while.
func (c *counted) settled() int64 {
	for n := c.reads.Load(); ; {
		time.Sleep(50 * time.Millisecond)
		if now := c.reads.Load(); now == n {
			return n
		} else {
			n = now
		}
	}
}

// await returns when so many requests have come and no more come for a while, and returns how many came.
func (c *counted) await(t *testing.T, n int64) int64 {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); c.reads.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests of %d in a minute", c.reads.Load(), n)
		}
	}
	return c.settled()
}

// What was asked for ahead takes one request, also if it is read meanwhile, and none again; and it is in the cache then.
func TestAhead(t *testing.T) {
	p := newPlaces(t)
	data := make([]byte, 4<<20+30_000)
	for i := range data {
		data[i] = byte(i * 31 >> 7)
	}
	maker := p.open(t, 0, nil)
	var objects []remote.Info
	for i := range 3 {
		must(t, maker.Put(t.Context(), extentNo(i), data))
		objects = append(objects, remote.Info{Name: extentNo(i), Size: int64(len(data))})
	}
	for i := range 100 {
		must(t, maker.Put(t.Context(), headerNo(i), data[i:1000+i]))
		objects = append(objects, remote.Info{Name: headerNo(i)})
	}
	var c *counted
	open := func() *cache.Store {
		return p.open(t, 0, func(s remote.Store) remote.Store { c = &counted{Store: s}; return c })
	}
	s := open()
	check := func(what string, requests int64) {
		t.Helper()
		for i := range 3 {
			got := make([]byte, len(data)-1)
			if _, err := s.ReadAt(t.Context(), extentNo(i), got, 0); err != nil || !bytes.Equal(got, data[:len(got)]) {
				t.Errorf("%s: read %d: %v", what, i, err)
			}
		}
		for i := range 100 {
			if got, err := s.Get(t.Context(), headerNo(i), 2000); err != nil || !bytes.Equal(got, data[i:1000+i]) {
				t.Errorf("%s: get %d: %v", what, i, err)
			}
		}
		if n := c.settled(); n != requests {
			t.Errorf("%s: %d requests, want %d", what, n, requests)
		}
	}
	for range 2 {
		if n := s.Ahead(objects); n != len(objects) {
			t.Errorf("%d of %d are taken on", n, len(objects))
		}
	}
	check("at once", 103)
	s.Ahead(objects)
	check("again", 103)
	must(t, s.Close())
	s = open()
	s.Ahead(objects)
	check("by the next process", 0)
	for i := range 3 { // as if damaged
		if !s.Forget(extentNo(i)) {
			t.Errorf("nothing to forget of %d", i)
		}
	}
	s.Ahead(objects[:3])
	check("after it was forgotten", 3)
	for i := range 3 {
		if !s.Forget(extentNo(i)) {
			t.Errorf("nothing to forget of %d in memory", i)
		}
	}
}

// There is room for some only; the state's own are not asked for; and what fails ahead fails for who reads it.
func TestAheadBounds(t *testing.T) {
	p := newPlaces(t)
	data := make([]byte, 300_000)
	hold := make(chan struct{})
	sorry := errors.New("sorry")
	var fail atomic.Bool
	fail.Store(true)
	var c *counted
	s := p.open(t, 0, func(s remote.Store) remote.Store {
		c = &counted{Store: s, fail: func(op, _ string) error {
			if op == "read" {
				<-hold
				if fail.Load() {
					return sorry
				}
			}
			return nil
		}}
		return c
	})
	var objects []remote.Info
	for i := range 20 {
		if i == 2 {
			create(t, s, extentNo(i), data)
		} else {
			must(t, s.Put(t.Context(), extentNo(i), data))
		}
		objects = append(objects, remote.Info{Name: extentNo(i), Size: int64(len(data))})
	}
	n := s.Ahead(objects)
	if n < 4 || n >= len(objects) {
		t.Errorf("%d are taken on", n)
	}
	close(hold)
	if got := c.await(t, int64(n-1)); got != int64(n-1) {
		t.Errorf("%d requests for %d objects, one of which is here", got, n)
	}
	if _, err := s.ReadAt(t.Context(), extentNo(0), data, 0); !errors.Is(err, sorry) {
		t.Errorf("read what cannot be fetched: %v", err)
	}
	fail.Store(false)
	has(t, s, extentNo(0), data)
	s.Ahead(slices.Repeat([]remote.Info{{Name: "files/aa/aaaaaaaaaaaaaaaaaaaaaaaaaa.h1-aaaaaaaaaaaaaaaaaaaab"}, {Name: "root"}, {Name: "no name"}}, 10))
	must(t, s.Close())
	if left, err := os.ReadDir(p.cache); err != nil || len(left) == 0 {
		t.Errorf("in the cache: %v", fmt.Sprint(left, err))
	}
}
