package cache

import (
	"context"
	"sync"

	"envfs/remote"
)

const (
	// aheadAtOnce is how many small objects are fetched ahead at a time.
	aheadAtOnce = 32
	// aheadWaiting bounds how many wait for that.
	aheadWaiting = 4096
)

// ahead fetches objects before they are asked for.
type ahead struct {
	ctx    context.Context // of all that it does
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	waiting []string // small objects
	workers int
}

func newAhead() *ahead {
	a := &ahead{}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// close breaks off what is under way.
func (a *ahead) close() {
	a.cancel()
	a.done.Wait()
}

var _ remote.Ahead = (*Store)(nil)

// Ahead implements remote.Ahead. Extents are fetched in a row of pages, small objects as Get does.
func (s *Store) Ahead(objects []remote.Info) int {
	for i, o := range objects {
		switch {
		case !cached(o.Name):
		case !grows(o.Name):
			if !s.queue(o.Name) {
				return i
			}
		case !s.aheadOf(o):
			return i
		}
	}
	return len(objects)
}

// aheadOf begins to fetch an extent. It reports whether that was possible, or not needed.
func (s *Store) aheadOf(o remote.Info) bool {
	if _, err := s.state.Size(s.ahead.ctx, o.Name); err == nil || o.Size <= 0 {
		return true
	}
	first := pageKey{hashOf(o.Name), 0}
	last := pageKey{first.object, (o.Size - 1) / pageSize}
	if s.pages.has(first) && s.pages.has(last) || s.runs.has(last) {
		return true
	}
	if last.number >= 2*runPages { // no run may hold so much
		return true
	}
	if !s.runs.slots.TryAcquire(1) {
		return false
	}
	n, mine := s.runs.join(first, last.number+1)
	defer s.runs.leave(n)
	if mine {
		s.begin(o.Name, n)
	} else { // its beginning is on its way
		s.runs.slots.Release(1)
	}
	return true
}

// queue has a small object fetched. It reports whether there was room.
func (s *Store) queue(name string) bool {
	a := s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) >= aheadWaiting {
		return false
	}
	a.waiting = append(a.waiting, name)
	if a.workers < aheadAtOnce {
		a.workers++
		a.done.Go(s.fetchWaiting)
	}
	return true
}

// fetchWaiting fetches small objects until there are none that wait.
func (s *Store) fetchWaiting() {
	a := s.ahead
	for {
		a.mu.Lock()
		if len(a.waiting) == 0 || a.ctx.Err() != nil {
			a.workers--
			a.mu.Unlock()
			return
		}
		name := a.waiting[0]
		a.waiting = a.waiting[1:]
		a.mu.Unlock()
		k := pageKey{hashOf(name), wholeObject}
		if s.pages.has(k) {
			continue
		}
		_, _ = s.pages.fetch(a.ctx, k, func(context.Context) ([]byte, error) { // who needs it learns why
			return s.far.Get(a.ctx, name, maxWhole)
		})
	}
}
