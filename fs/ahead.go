package fs

import (
	"context"
	"sync"

	"envfs/blockcrypt"
	"envfs/remote"
)

// On a store that is far away it pays to ask for what will be needed next: the extents that follow where a file is read
// from one end to the other, and the headers and indexes of a directory of which some were needed after it was listed.

const (
	// aheadAfter is how much of a file is read in sequence before anything is fetched ahead, in blocks.
	aheadAfter = 256 << 10 / blockcrypt.BlockSize
	// aheadMost is how far ahead a file is fetched at most, in blocks: 32 MiB, in eight requests.
	aheadMost = 32 << 20 / blockcrypt.BlockSize
	// aheadStep is how much is asked for at least once the reader has come so far, in blocks: about one request.
	aheadStep = 4 << 20 / blockcrypt.BlockSize
	// aheadSlack is how far requests of one reader may be from each other, in blocks: the kernel sends several at once, in
	// any order.
	aheadSlack = 4 << 20 / blockcrypt.BlockSize
)

// sequence is how a file was read last, in blocks.
type sequence struct {
	mu    sync.Mutex
	end   uint64 // of the furthest read
	read  uint64 // in sequence so far
	asked uint64 // up to here
	busy  bool   // somebody is about to ask
}

// note takes note of a read, and returns for which range to ask; if it is not empty, the caller does so and says up to where
// by done.
func (s *sequence) note(first, count uint64) (from, to uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first > s.end+aheadSlack || first+count+aheadSlack < s.end {
		s.read, s.end, s.asked = 0, 0, 0
	}
	s.end = max(s.end, first+count)
	s.read += count
	if s.read < aheadAfter || s.busy {
		return 0, 0
	}
	window := min(16*s.read, aheadMost)
	if s.asked+min(aheadStep, window/2) > s.end+window {
		return 0, 0
	}
	s.busy = true
	return max(s.asked, s.end), s.end + window
}

func (s *sequence) done(asked uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.busy = max(s.asked, asked), false
}

// readAhead is told of a read of count blocks, and has the store fetch what will be read next.
func (c *content) readAhead(ctx context.Context, first, count uint64) {
	store, ok := c.fs.store.(remote.Ahead)
	if !ok {
		return
	}
	from, to := c.sequence.note(first, count)
	if from == to {
		return
	}
	asked := from
	if end := (c.length() + blockcrypt.BlockSize - 1) / blockcrypt.BlockSize; from < end {
		asked = c.askFor(ctx, store, from, min(to, end))
	}
	c.sequence.done(asked)
}

// askFor has the store fetch the extents of a range. It returns up to where it will.
func (c *content) askFor(ctx context.Context, store remote.Ahead, from, to uint64) uint64 {
	pieces, err := c.fs.resolve(ctx, c, from, to-from)
	if err != nil {
		return from // reading will tell
	}
	var objects []remote.Info
	var begin []uint64 // where each of them begins in the file
	asked := make(map[string]bool)
	for i := range pieces {
		pc := &pieces[i]
		if pc.run.Kind != blockcrypt.RunExtent {
			continue
		}
		if name := extentName(c.id, &pc.ext); !asked[name] {
			asked[name] = true
			objects = append(objects, remote.Info{Name: name, Size: int64(pc.ext.Length)})
			begin = append(begin, pc.run.Start)
		}
	}
	if n := store.Ahead(objects); n < len(objects) {
		return begin[n]
	}
	return to
}

const (
	// walkAfter is how many objects of a listing are needed before the others are asked for.
	walkAfter = 2
	// maxWalked bounds the objects of listings that are remembered.
	maxWalked = 16_384
)

// walk is the headers of the files of a part of a directory, or the indexes of its directories.
type walk struct {
	objects []*miss
	needed  int
}

// walks remembers what was listed last.
type walks struct {
	mu     sync.Mutex
	of     map[blockcrypt.Hash]*walk
	recent []*walk // the oldest first
	total  int     // objects in recent
}

// listed notes names of a directory that somebody lists.
func (f *FS) listed(items []dirent) {
	if _, ok := f.store.(remote.Ahead); !ok {
		return
	}
	var files, dirs []*miss
	for _, item := range items {
		e := item.entry
		switch {
		case e.Head.IsZero():
		case e.Type == blockcrypt.TypeRegular:
			files = append(files, headerMiss(e.ID, e.Head))
		case e.Type == blockcrypt.TypeDirectory:
			dirs = append(dirs, indexMiss(e.ID, e.Head))
		}
	}
	f.walks.add(files)
	f.walks.add(dirs)
}

func (w *walks) add(objects []*miss) {
	if len(objects) <= walkAfter {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[objects[0].hash] != nil {
		return // it was listed just now
	}
	if w.of == nil {
		w.of = make(map[blockcrypt.Hash]*walk)
	}
	n := &walk{objects: objects}
	for _, m := range objects {
		w.of[m.hash] = n
	}
	w.recent = append(w.recent, n)
	w.total += len(objects)
	for w.total > maxWalked && len(w.recent) > 1 {
		w.forget(w.recent[0])
	}
}

// forget removes a walk. w.mu is held.
func (w *walks) forget(old *walk) {
	for _, m := range old.objects {
		if w.of[m.hash] == old {
			delete(w.of, m.hash)
		}
	}
	for i, n := range w.recent {
		if n == old {
			w.recent = append(w.recent[:i:i], w.recent[i+1:]...)
			w.total -= len(old.objects)
			return
		}
	}
}

// need notes that an object is needed. It returns the others of its listing if it is time to ask for them.
func (w *walks) need(m *miss) []*miss {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.of[m.hash]
	if n == nil {
		return nil
	}
	if n.needed++; n.needed < walkAfter {
		return nil
	}
	w.forget(n)
	return n.objects
}

// siblings has the store fetch what was listed together with an object that is needed now.
func (f *FS) siblings(m *miss) {
	store, ok := f.store.(remote.Ahead)
	if !ok || m.kind != blockcrypt.KindHeader && m.kind != blockcrypt.KindIndex {
		return
	}
	var objects []remote.Info
	for _, other := range f.walks.need(m) {
		if other.hash != m.hash && f.cache.get(other.hash) == nil {
			objects = append(objects, remote.Info{Name: other.name()})
		}
	}
	store.Ahead(objects) // those for which there is no room are fetched when they are needed
}
