package fs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
	"envfs/fs/journal"
)

// Extents are written once, so a block that is overwritten leaves a dead one behind, and an extent goes only when all of
// it is dead. Those of which less than half lives are written anew in the background, and so are small ones of which a
// file has many: their live blocks are appended to a new extent and a batch moves the map there, as if they had been
// written again. The volume of that is bounded by half of what was written since.

// sparse is what folds have found to be worth writing anew.
type sparse struct {
	credit atomic.Int64 // bytes that may be moved
	one    sync.Mutex   // held by who rewrites

	mu    sync.Mutex
	files map[blockcrypt.ID]*sparseFile
}

// sparseFile is a file, referred to as long as it is a candidate, and its extents that are.
type sparseFile struct {
	ino     *Inode
	extents []sparseExtent
}

// sparseExtent is an extent to be written anew, with the blocks that it had, and those that were live when they were
// counted.
type sparseExtent struct {
	number, slots, live uint32
}

const (
	maxSparse = 1024      // files; more are found again by later folds
	maxCredit = 256 << 20 // bytes

	// rowOfSmall is how many small extents a file has before they become one. Small is a share of a full one.
	rowOfSmall = 8
	smallShare = 16

	// moveStep is how many blocks are moved by one batch: 1 MiB.
	moveStep = 256
)

// earn notes that n bytes were written by others than the rewriting itself.
func (s *sparse) earn(n int) {
	s.credit.Store(min(maxCredit, s.credit.Add(int64(n)/2)))
}

// candidates returns the extents of a file, as a fold has just counted them, that are worth writing anew: the emptiest
// first, where moving little frees much.
func (l *limits) candidates(out *filemap.FoldOutput) []sparseExtent {
	var list, small []sparseExtent
	for i := range out.Sparse {
		x := &out.Sparse[i]
		list = append(list, sparseExtent{x.Number, x.Slots, x.Live})
	}
	for i := range out.Extents {
		if x := &out.Extents[i]; x.Slots < max(l.extentSlots/smallShare, 2) && 2*x.Live >= x.Slots {
			small = append(small, sparseExtent{x.Number, x.Slots, x.Live})
		}
	}
	if len(small) >= rowOfSmall {
		list = append(list, small...)
	}
	slices.SortStableFunc(list, func(a, b sparseExtent) int {
		return cmp.Compare(uint64(a.live)*uint64(b.slots), uint64(b.live)*uint64(a.slots))
	})
	return list
}

// within splits a list into the extents that can be moved with so much credit, and the others.
func within(list []sparseExtent, credit int64) (now map[uint32]bool, later []sparseExtent) {
	now = make(map[uint32]bool)
	for i, x := range list {
		if credit -= int64(x.live) * blockcrypt.BlockSize; credit < 0 {
			return now, list[i:]
		}
		now[x.number] = true
	}
	return now, nil
}

// noteSparse takes in what a fold has found, if the files are still where it has found them. FS.mu is held.
func (f *FS) noteSparse(found []foundSparse) {
	s := &f.sparse
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range found {
		if old := s.files[x.id]; old != nil {
			old.extents = x.extents
			continue
		}
		d := f.dirs[x.parent]
		if d == nil || len(s.files) >= maxSparse {
			continue
		}
		h := d.hash(x.entry.Name)
		e := x.entry
		if now, known := f.active.get(d.id, h, e.Name); known {
			if now == nil || now.ID != x.id || now.Type != blockcrypt.TypeRegular {
				continue // moved, to the files of several names too, or gone
			}
			e = now
		}
		if s.files == nil {
			s.files = make(map[blockcrypt.ID]*sparseFile)
		}
		s.files[x.id] = &sparseFile{ino: f.inodeFor(d, h, e), extents: x.extents}
	}
}

// foundSparse is a file whose extents a fold has counted, and where its entry lies.
type foundSparse struct {
	id, parent blockcrypt.ID
	entry      *blockcrypt.Entry
	extents    []sparseExtent
}

// take returns a candidate, which is none any more.
func (s *sparse) take() *sparseFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, x := range s.files {
		delete(s.files, id)
		return x
	}
	return nil
}

// Rewrite writes anew what folds have found to be worth it, as far as the credit goes, and returns how many bytes were
// moved. What was moved is gone from the old extents with the next fold.
func (f *FS) Rewrite(ctx context.Context) (moved int64, err error) {
	f.sparse.one.Lock()
	defer f.sparse.one.Unlock()
	var later []*sparseFile
	for err == nil {
		x := f.sparse.take()
		if x == nil {
			break
		}
		var from map[uint32]bool
		from, x.extents = within(x.extents, f.sparse.credit.Load())
		if len(from) > 0 {
			var n int64
			n, err = f.rewriteFile(ctx, x.ino, from)
			moved += n
			if harms(err) { // of this file, and reported
				err, x.extents = nil, nil
			}
		}
		if len(x.extents) > 0 {
			later = append(later, x)
		} else {
			f.Forget(x.ino, 1)
		}
	}
	for _, x := range later {
		f.sparse.putBack(f, x)
	}
	return moved, err
}

// putBack makes a file a candidate again, unless a fold has meanwhile.
func (s *sparse) putBack(f *FS, x *sparseFile) {
	s.mu.Lock()
	_, newer := s.files[x.ino.id]
	if !newer {
		s.files[x.ino.id] = x
	}
	s.mu.Unlock()
	if newer {
		f.Forget(x.ino, 1)
	}
}

// rewriteFile moves the blocks of a file out of some of its extents, and returns how many bytes were moved.
func (f *FS) rewriteFile(ctx context.Context, ino *Inode, from map[uint32]bool) (moved int64, err error) {
	h, err := f.Open(ctx, ino)
	if errors.Is(err, ErrStale) || errors.Is(err, ErrNotExist) {
		return 0, nil // removed meanwhile
	}
	if err != nil {
		return 0, err
	}
	defer h.Close()
	return f.moveOut(ctx, h, func(x *blockcrypt.ExtentInfo) bool { return from[x.Number] })
}

// moveOut moves the blocks of an open file out of the extents that leave tells, and returns how many bytes were moved.
func (f *FS) moveOut(ctx context.Context, h *File, leave func(*blockcrypt.ExtentInfo) bool) (moved int64, err error) {
	m := &mover{c: h.c, leave: leave}
	blocks := (h.c.length() + blockcrypt.BlockSize - 1) / blockcrypt.BlockSize
	for n := uint64(0); n < blocks; n += seekChunk {
		pieces, err := f.resolve(ctx, h.c, n, min(blocks-n, seekChunk))
		if err != nil {
			return m.moved, err
		}
		for i := range pieces {
			if err := m.gather(ctx, &pieces[i]); err != nil {
				return m.moved, fmt.Errorf("rewrite %s: %w", label(h.c.id), err)
			}
		}
	}
	if err := m.move(ctx); err != nil {
		return m.moved, fmt.Errorf("rewrite %s: %w", label(h.c.id), err)
	}
	return m.moved, nil
}

// mover moves blocks of one file.
type mover struct {
	c      *content
	leave  func(*blockcrypt.ExtentInfo) bool // whether an extent is to be left
	at     []uint64                          // blocks gathered, ascending
	blocks []*block
	where  []blockcrypt.Run // where they were, a run of one block each
	moved  int64            // bytes
}

// gather reads the blocks of a piece that lie in an extent to be left.
func (m *mover) gather(ctx context.Context, pc *piece) error {
	if pc.run.Kind != blockcrypt.RunExtent || !m.leave(&pc.ext) {
		return nil
	}
	f := m.c.fs
	for n := pc.run.Start; n < pc.run.Start+pc.run.Count; n++ {
		one := pc.block(n)
		b := f.blocks.Get().(*block)
		if err := f.readPiece(ctx, m.c.id, &one, b[:]); err != nil {
			f.blocks.Put(b)
			if errors.Is(err, ErrDamaged) {
				_ = f.report(err) // it stays where it is, for check to find
				continue
			}
			return err
		}
		m.at, m.blocks, m.where = append(m.at, n), append(m.blocks, b), append(m.where, one.run)
		if len(m.at) == moveStep {
			if err := m.move(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// move writes what was gathered to the file's extent and moves the map there, but for blocks that were written or cut off
// meanwhile.
func (m *mover) move(ctx context.Context) (err error) {
	c, f := m.c, m.c.fs
	defer func() {
		for _, b := range m.blocks {
			f.blocks.Put(b)
		}
		m.at, m.blocks, m.where = m.at[:0], m.blocks[:0], m.where[:0]
	}()
	if len(m.at) == 0 {
		return nil
	}
	if err := f.admit(ctx, len(m.at)*blockcrypt.ExtentRecordSize, ordinary); err != nil {
		return err
	}
	c.flushMu.Lock()
	defer c.flushMu.Unlock()
	defer f.keepGrowing(c)
	if c.gone() {
		return nil
	}
	n := int64(len(m.at)) * blockcrypt.BlockSize
	f.sparse.credit.Add(-n)
	s := &saved{at: m.at, blocks: m.blocks, whole: len(m.at), moves: m.where}
	if err := c.save(context.WithoutCancel(ctx), s, ordinary); err != nil {
		return err
	}
	m.moved += n
	return nil
}

// recordMoves puts the new places of blocks that are still where they were into the active layer and the batch; ok is
// false if there are none. FS.mu is held; it changes nothing before it can no longer miss.
func (f *FS) recordMoves(c *content, e *blockcrypt.Entry, s *saved) (ok bool, err error) {
	same := make([]bool, len(s.at))
	for i := 0; i < len(s.at); {
		k := i + 1
		for k < len(s.at) && s.at[k] == s.at[k-1]+1 {
			k++
		}
		if err := f.stillThere(e, s.at[i:k], s.moves[i:k], same[i:k]); err != nil {
			return false, err
		}
		i = k
	}
	var runs []blockcrypt.Run
	for _, r := range s.runs {
		i, _ := slices.BinarySearch(s.at, r.Start)
		for n := range r.Count {
			if same[i+int(n)] {
				one := blockcrypt.Run{Start: r.Start + n, Count: 1, Kind: r.Kind, Extent: r.Extent, Slot: r.Slot + uint32(n)}
				runs = joinRuns(runs, one)
			}
		}
	}
	if len(runs) == 0 {
		return false, nil
	}
	for i := range s.extents {
		x := s.extents[i]
		f.logFile(journal.Delta{Kind: journal.SetExtent, ID: c.id, Extent: &x})
	}
	f.logFile(journal.Delta{Kind: journal.SetRuns, ID: c.id, Runs: runs})
	f.save(c.ino, e) // a fold looks at a file's content when it comes by its entry
	return true, nil
}

// stillThere tells which of the blocks at, one after the other, lie where they were.
func (f *FS) stillThere(e *blockcrypt.Entry, at []uint64, where []blockcrypt.Run, same []bool) error {
	pieces, err := f.locate(nil, e, f.layers(), 0, at[0], uint64(len(at)))
	if err != nil {
		return err
	}
	for i := range pieces {
		r := pieces[i].run
		for n := range r.Count {
			k := r.Start + n - at[0]
			same[k] = r.Kind == blockcrypt.RunExtent && r.Extent == where[k].Extent && r.Slot+uint32(n) == where[k].Slot
		}
	}
	return nil
}

func joinRuns(runs []blockcrypt.Run, r blockcrypt.Run) []blockcrypt.Run {
	if k := len(runs) - 1; k >= 0 {
		if p := &runs[k]; p.Extent == r.Extent && p.Start+p.Count == r.Start && uint64(p.Slot)+p.Count == uint64(r.Slot) {
			p.Count++
			return runs
		}
	}
	return append(runs, r)
}
