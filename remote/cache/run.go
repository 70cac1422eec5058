package cache

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// runPages is how many pages are fetched by one request when an object is read from one page to the next: a whole
	// extent of 4 MiB, whose blocks are sealed.
	runPages = 33
	// maxTracked bounds of how many objects it is known where they were read last.
	maxTracked = 1024
	// wholeAfter is how many pages of an extent are fetched by themselves, with the one in hand, before all of it is, until
	// it is known how long either takes, and wholeAtLast at most.
	wholeAfter  = 4
	wholeAtLast = 8
	// maxRuns bounds the runs that are being fetched, maxDirect those that are being put into the cache past the page
	// cache, and maxStoring those that go through it. Each is held in memory. If the disk cannot keep up, the others are
	// not put there: waiting would cost more than fetching again.
	maxRuns    = 12
	maxDirect  = 3
	maxStoring = 4
	// keptRuns is how many of those that are done with stay in memory for who is about to read them.
	keptRuns = 10
)

// runs knows which objects are read from one page to the next, and holds the pages that were fetched in a row.
type runs struct {
	slots   *semaphore.Weighted // of maxRuns
	direct  *semaphore.Weighted // of maxDirect
	storing *semaphore.Weighted // of maxStoring

	mu    sync.Mutex
	last  map[nameHash]place
	page  average // how long fetching a page takes
	whole average // how long fetching most of a run takes
	all   map[nameHash][]*run
	kept  []*run // done with, the oldest first
}

// place is where an object was read last, and how many of its pages were fetched by themselves.
type place struct {
	recent  [recentPages]int64 // numbers of pages + 1, the newest at next-1
	next    int
	fetched int
}

// recentPages is how many of the pages that were read last are remembered: as many readers of one row may overtake each
// other, since the kernel sends several requests at once.
const recentPages = 4

// run is a row of pages that one request fetches.
type run struct {
	object   nameHash
	from, to int64 // to is the first page after it
	done     chan struct{}
	data     []byte // set before done is closed, and not changed while there are users
	err      error  // set before done is closed

	users int  // who may look at data; guarded by runs.mu
	gone  bool // nobody can become a user any more; guarded by runs.mu

	storing sync.Mutex
	dropped bool // it must not be put into the cache; guarded by storing
}

func newRuns() *runs {
	return &runs{slots: semaphore.NewWeighted(maxRuns), direct: semaphore.NewWeighted(maxDirect), storing: semaphore.NewWeighted(maxStoring), last: make(map[nameHash]place), all: make(map[nameHash][]*run)}
}

// touch notes that a page is read. It reports whether the one before it was among those that were read last.
func (r *runs) touch(k pageKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, known := r.last[k.object]
	if !known && len(r.last) >= maxTracked {
		for object := range r.last { // whichever comes first
			delete(r.last, object)
			break
		}
	}
	sequential := k.number > 0 && slices.Contains(at.recent[:], k.number)
	if !slices.Contains(at.recent[:], k.number+1) {
		at.recent[at.next] = k.number + 1
		at.next = (at.next + 1) % recentPages
		r.last[k.object] = at
	}
	return sequential
}

// average is a duration of late.
type average time.Duration

func (a *average) add(d time.Duration) {
	if *a == 0 {
		*a = average(d)
	}
	*a += (average(d) - *a) / 8
}

// took notes how long fetching a page took, or a whole run.
func (r *runs) took(whole bool, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if whole {
		r.whole.add(d)
	} else {
		r.page.add(d)
	}
}

// breakEven is how many pages take as long as the whole. r.mu is held.
func (r *runs) breakEven() int {
	if r.page <= 0 || r.whole <= 0 {
		return wholeAfter
	}
	return int(min(max(1, (r.whole+r.page/2)/r.page), wholeAtLast))
}

// single notes that a page is to be fetched by itself. It reports whether that has come to so many of an object that the
// whole had been there in the same time: then it is better fetched at once, and never takes more than twice the best.
func (r *runs) single(object nameHash) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.last[object]
	at.fetched++
	r.last[object] = at
	return at.fetched >= r.breakEven()
}

// join returns the run that a page is in. If there is none it returns a new one of some pages that begins with the page,
// which the caller must fetch. The caller becomes a user of it.
func (r *runs) join(k pageKey, pages int64) (_ *run, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.find(k); old != nil {
		old.users++
		return old, false
	}
	n := &run{object: k.object, from: k.number, to: k.number + pages, done: make(chan struct{}), users: 1}
	r.all[k.object] = append(r.all[k.object], n)
	return n, true
}

// find returns the run that a page is in, if there is one. r.mu is held.
func (r *runs) find(k pageKey) *run {
	for _, old := range r.all[k.object] {
		if k.number >= old.from && k.number < old.to {
			return old
		}
	}
	return nil
}

// under returns the run that a page is in, of which the caller becomes a user, or nil.
func (r *runs) under(k pageKey) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.find(k)
	if n != nil {
		n.users++
	}
	return n
}

// has reports whether a page is in a run.
func (r *runs) has(k pageKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(k) != nil
}

// leave ends being a user.
func (r *runs) leave(n *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.users--
	n.recycle()
}

// buffers are memory for runs: new memory for each would cost more than fetching it.
var buffers = sync.Pool{New: func() any { return new([runPages * pageSize]byte) }}

// recycle gives a run's memory back if nobody can look at it any more. runs.mu is held.
func (n *run) recycle() {
	if n.gone && n.users == 0 && cap(n.data) == runPages*pageSize {
		buffers.Put((*[runPages * pageSize]byte)(n.data[:cap(n.data)]))
		n.data = nil
	}
}

// remove forgets a run. r.mu is held.
func (r *runs) remove(n *run) {
	r.all[n.object] = slices.DeleteFunc(r.all[n.object], func(o *run) bool { return o == n })
	if len(r.all[n.object]) == 0 {
		delete(r.all, n.object)
	}
	n.gone = true
	n.recycle()
}

// keep notes that a run is done with; some of the newest stay in memory.
func (r *runs) keep(n *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.all[n.object], n) {
		return // it was dropped
	}
	r.kept = append(r.kept, n)
	if len(r.kept) > keptRuns {
		r.remove(r.kept[0])
		r.kept = slices.Delete(r.kept, 0, 1)
	}
}

// drop forgets the runs of an object, and reports whether there were any. None of them gets into the cache any more.
func (r *runs) drop(object nameHash) bool {
	r.mu.Lock()
	all := slices.Clone(r.all[object])
	for _, n := range all {
		r.remove(n)
	}
	r.kept = slices.DeleteFunc(r.kept, func(n *run) bool { return n.object == object })
	r.mu.Unlock()
	for _, n := range all {
		n.storing.Lock()
		n.dropped = true
		n.storing.Unlock()
	}
	return len(all) > 0
}

// wait returns when the run was fetched, or not, which its err tells.
func (n *run) wait(ctx context.Context) error {
	select {
	case <-n.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// page returns a page of a run that was fetched: shorter than pageSize at the object's end, empty behind it.
func (n *run) page(number int64) []byte {
	from := min(int64(len(n.data)), (number-n.from)*pageSize)
	return n.data[from:min(int64(len(n.data)), from+pageSize)]
}

// fetchRun begins to fetch a page and those after it by one request, and returns the run, of which the caller becomes a
// user. If others are doing that already it returns theirs.
func (s *Store) fetchRun(ctx context.Context, name string, k pageKey) (*run, error) {
	if err := s.runs.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	n, mine := s.runs.join(k, runPages)
	if mine {
		s.begin(name, n)
	} else {
		s.runs.slots.Release(1)
	}
	return n, nil
}

// fetchExtent begins to fetch a whole extent, and returns the run, of which the caller becomes a user; nil if there is no
// slot.
func (s *Store) fetchExtent(name string, object nameHash) *run {
	if !s.runs.slots.TryAcquire(1) {
		return nil
	}
	n, mine := s.runs.join(pageKey{object, 0}, runPages)
	switch {
	case mine:
		s.begin(name, n)
		return n
	case n.to < runPages: // of its beginning only
		s.runs.leave(n)
		n = nil
	}
	s.runs.slots.Release(1)
	return n
}

// begin fetches a run, for which there is a slot, and puts it into the cache, in the background.
func (s *Store) begin(name string, n *run) {
	s.runs.mu.Lock()
	n.users++ // for the background
	s.runs.mu.Unlock()
	s.ahead.done.Go(func() {
		defer s.runs.leave(n)
		var data []byte
		if n.to-n.from <= runPages {
			data = buffers.Get().(*[runPages * pageSize]byte)[:(n.to-n.from)*pageSize]
		} else {
			data = make([]byte, (n.to-n.from)*pageSize)
		}
		begun := time.Now()
		got, err := s.far.ReadAt(s.ahead.ctx, name, data, n.from*pageSize)
		if got > len(data)/2 {
			s.runs.took(true, time.Since(begun))
		}
		if err == io.EOF {
			err = nil
		}
		s.runs.slots.Release(1)
		n.data, n.err = data[:got], err
		close(n.done)
		if err == nil {
			s.store(n)
			s.runs.keep(n)
			return
		}
		s.runs.mu.Lock()
		defer s.runs.mu.Unlock()
		s.runs.remove(n) // the next one tries again
	})
}

// store puts the pages of a run into the cache if the disk keeps up, in one file: making a file costs as much as writing
// several pages.
func (s *Store) store(n *run) {
	direct := s.runs.direct.TryAcquire(1)
	switch {
	case direct:
		defer s.runs.direct.Release(1)
	case s.runs.storing.TryAcquire(1):
		defer s.runs.storing.Release(1)
	default:
		return
	}
	n.storing.Lock()
	defer n.storing.Unlock()
	if !n.dropped {
		s.pages.putRow(pageKey{n.object, n.from}, n.data, pageSize, direct)
	}
}
