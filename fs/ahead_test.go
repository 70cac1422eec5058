package fs

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
)

// slow is a store far away, which notes how much was asked for at a time.
type slow struct {
	remote.Store
	mu        sync.Mutex
	now, most int
	requests  int
	want      int
	gate      chan struct{} // if not nil: requests wait until want of them are under way
}

// gather has requests from now on wait until so many are under way at a time, as they would be on a store that is far away
// indeed. Those of who asks for less at a time wait for long.
func (s *slow) gather(want int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want, s.gate = want, make(chan struct{})
}

// release ends that. s.mu is held.
func (s *slow) release() {
	if s.gate != nil {
		close(s.gate)
		s.gate = nil
	}
}

func (s *slow) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.now++
	s.most = max(s.most, s.now)
	if s.now >= s.want {
		s.release()
	}
	if gate := s.gate; gate != nil {
		s.mu.Unlock()
		select {
		case <-gate:
		case <-time.After(time.Minute):
		}
		s.mu.Lock()
		s.release()
	}
	s.now--
}

func (s *slow) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	s.wait()
	return s.Store.ReadAt(ctx, name, p, off)
}

func (s *slow) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	s.wait()
	return s.Store.Get(ctx, name, limit)
}

// noted returns what was noted, and forgets it.
func (s *slow) noted() (requests, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests, most = s.requests, s.most
	s.requests, s.most = 0, s.now
	return requests, most
}

// Who reads a file from one end to the other, or walks a directory, has many objects fetched at a time.
func TestAhead(t *testing.T) {
	machines := newShared(t)
	a := machines("a")
	a.mustOpen(Options{})
	const blocks, perExtent, files = 400, 8, 60
	data := make([]byte, blocks*blockcrypt.BlockSize)
	for i := range data {
		data[i] = byte(i * 31 >> 9)
	}
	a.write("/large", data)
	a.rig().mkdir("/dir")
	for i := range files {
		a.write(fmt.Sprintf("/dir/%d", i), bytes.Repeat([]byte{byte(i)}, 1000))
	}
	must(t, a.fs.Fold(t.Context()))
	a.close()

	b := machines("b")
	s := &slow{}
	b.wrap = func(far remote.Store) remote.Store { s.Store = far; return s }
	b.mustOpen(Options{ReadOnly: true})
	s.noted()
	ino, _, err := b.fs.Resolve(t.Context(), "/large")
	must(t, err)
	h, err := b.fs.Open(t.Context(), ino)
	must(t, err)
	for off := 0; off < len(data); off += 64 << 10 {
		if off == aheadAfter*blockcrypt.BlockSize { // what follows is being asked for
			s.gather(4)
		}
		got := make([]byte, min(64<<10, len(data)-off))
		if n, err := h.ReadAt(t.Context(), got, int64(off)); err != nil || !bytes.Equal(got[:n], data[off:][:len(got)]) {
			t.Errorf("at %d it is not the same: %v", off, err)
		}
	}
	h.Close()
	b.fs.Forget(ino, 1)
	b.close() // which ends what is still being fetched ahead
	extents := blocks / perExtent
	// Where the cache's disk cannot keep up, what was fetched may be gone from memory before it is read: then it is fetched once
	// more, as it is where a read comes before the store was asked.
	if requests, most := s.noted(); requests > 2*extents || most < 4 {
		t.Errorf("%d requests for %d extents, at most %d at a time", requests, extents, most)
	}
	b.mustOpen(Options{ReadOnly: true})
	defer b.close()
	s.noted()
	if n := len(b.rig().names("/dir")); n != files {
		t.Errorf("%d names", n)
	}
	if requests, _ := s.noted(); requests > 2 {
		t.Errorf("%d requests for a listing", requests)
	}
	for i := range files {
		if i == walkAfter-1 { // it has the others asked for
			s.gather(8)
		}
		if got := b.rig().read(fmt.Sprintf("/dir/%d", i)); !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, 1000)) {
			t.Errorf("file %d is not the same", i)
		}
	}
	if requests, most := s.noted(); requests > 2*files || most < 8 {
		t.Errorf("%d requests for %d files, at most %d at a time", requests, files, most)
	}
}

// Requests of a reader come several at once and in any order; one here and there is no reader from one end to the other.
func TestSequence(t *testing.T) {
	var s sequence
	const request = 1 << 20 / blockcrypt.BlockSize
	var reached uint64
	for _, n := range []uint64{1, 0, 2, 4, 3, 5, 7, 6, 8, 9, 11, 10} {
		from, to := s.note(n*request, request)
		if from == to {
			continue
		}
		if from < reached {
			t.Errorf("asked again from %d, before %d", from, reached)
		}
		if again, end := s.note(n*request, 0); again != end {
			t.Error("asked by two at a time")
		}
		reached = to
		s.done(to)
	}
	if reached < 16*request || reached > (12*request+aheadMost) {
		t.Errorf("asked up to %d", reached)
	}
	for i := range uint64(100) {
		if from, to := s.note(i*7919%1000*aheadSlack*3, 1); from != to {
			t.Errorf("asked for %d to %d by reading at random", from, to)
		}
	}
}

func TestWalks(t *testing.T) {
	objects := func(set, n int) (all []*miss) {
		for i := range n {
			all = append(all, &miss{hash: blockcrypt.Sum(fmt.Appendf(nil, "%d %d", set, i))})
		}
		return all
	}
	var w walks
	first := objects(1, 300)
	w.add(first)
	w.add(first) // listed again
	if w.total != 300 {
		t.Errorf("%d are remembered", w.total)
	}
	if got := w.need(objects(2, 1)[0]); got != nil {
		t.Error("asked for what was not listed")
	}
	if got := w.need(first[7]); got != nil {
		t.Error("asked after the first")
	}
	if got := w.need(first[8]); len(got) != 300 {
		t.Errorf("asked for %d", len(got))
	}
	if got := w.need(first[9]); got != nil || w.total != 0 || len(w.of) != 0 {
		t.Error("asked twice")
	}
	for set := range 100 {
		w.add(objects(set, 256))
	}
	if w.total > maxWalked || w.total < maxWalked/2 || len(w.of) != w.total {
		t.Errorf("%d are remembered, %d found", w.total, len(w.of))
	}
	w.need(objects(99, 2)[0])
	if got := w.need(objects(99, 2)[1]); len(got) != 256 {
		t.Errorf("asked for %d of the newest", len(got))
	}
}
