package cache

import (
	"context"
	"io"
	"slices"
	"sync"
)

// runPages is how many pages are fetched by one request when an object is read from one page to the next: 4 MiB, a whole
// extent.
const runPages = 32

// maxTracked bounds of how many objects it is known where they were read last.
const maxTracked = 1024

// runs knows which objects are read from one page to the next, and which of their pages are on their way.
type runs struct {
	mu     sync.Mutex
	last   map[nameHash]int64
	flying map[nameHash][]*run
}

// run is a row of pages that one request fetches.
type run struct {
	from, to int64 // to is the first page after it
	done     chan struct{}
	err      error // set before done is closed
}

func newRuns() *runs {
	return &runs{last: make(map[nameHash]int64), flying: make(map[nameHash][]*run)}
}

// touch notes that a page is read. It reports whether the one before it was read last.
func (r *runs) touch(k pageKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, known := r.last[k.object]
	if !known && len(r.last) >= maxTracked {
		for object := range r.last { // whichever comes first
			delete(r.last, object)
			break
		}
	}
	r.last[k.object] = k.number
	return known && k.number == last+1
}

// join returns the run under way that a page is in. If there is none it returns a new one that begins with the page, which
// the caller must end.
func (r *runs) join(k pageKey) (_ *run, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.find(k); old != nil {
		return old, false
	}
	n := &run{from: k.number, to: k.number + runPages, done: make(chan struct{})}
	r.flying[k.object] = append(r.flying[k.object], n)
	return n, true
}

// find returns the run under way that a page is in, if there is one. r.mu is held.
func (r *runs) find(k pageKey) *run {
	for _, old := range r.flying[k.object] {
		if k.number >= old.from && k.number < old.to {
			return old
		}
	}
	return nil
}

// under returns the run under way that a page is in, or nil.
func (r *runs) under(k pageKey) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(k)
}

func (r *runs) end(object nameHash, n *run, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.err = err
	close(n.done)
	r.flying[object] = slices.DeleteFunc(r.flying[object], func(o *run) bool { return o == n })
	if len(r.flying[object]) == 0 {
		delete(r.flying, object)
	}
}

// wait returns when the run has ended.
func (n *run) wait(ctx context.Context) error {
	select {
	case <-n.done:
		return n.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fetchRun fetches a page and those after it by one request, keeps them, and returns the first. If others are doing that
// already it waits for them.
func (s *Store) fetchRun(ctx context.Context, name string, k pageKey) ([]byte, error) {
	n, mine := s.runs.join(k)
	if !mine {
		if err := n.wait(ctx); err != nil {
			return nil, err
		}
		return s.fetchPage(ctx, name, k) // it is in the cache, unless that is full
	}
	data := make([]byte, runPages*pageSize)
	got, err := s.far.ReadAt(ctx, name, data, k.number*pageSize)
	if err == io.EOF {
		err = nil
	}
	if err == nil {
		for i := int64(0); i < runPages; i++ {
			part := data[min(int64(got), i*pageSize):min(int64(got), (i+1)*pageSize)]
			if i > 0 && len(part) == 0 {
				break
			}
			s.pages.put(pageKey{k.object, k.number + i}, part)
		}
	}
	s.runs.end(k.object, n, err)
	if err != nil {
		return nil, err
	}
	return slices.Clone(data[:min(got, pageSize)]), nil
}
