package fs

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
)

// spaceGauge remembers the store's free space for a moment.
type spaceGauge struct {
	step atomic.Int64 // how much the journal reserves at a time

	mu    sync.Mutex
	at    time.Time
	free  uint64
	full  uint64
	spent uint64 // by this process since

	tried   bool   // room was made
	triedAt uint64 // last batch then

	// margin is what must be free beyond all need since room was made: as much as was waiting to be folded then. Else
	// the end of the disk would be filled with a fold, which writes whole indexes, for each few bytes.
	margin uint64
}

// spend notes that n bytes were written.
func (g *spaceGauge) spend(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spent += uint64(n)
}

// noteTried notes that room was made when the journal ended with a batch.
func (g *spaceGauge) noteTried(batch uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = time.Time{} // look anew
	g.tried, g.triedAt = true, batch
}

const (
	spaceFor   = 200 * time.Millisecond
	spaceFloor = 8 << 20  // bytes that writes leave free beyond what the next fold needs; at most 0.5 % of the disk
	maxMargin  = 16 << 20 // at most 3 % of the disk
	nearFull   = 256 << 20
)

// floor is what writes leave free.
func (g *spaceGauge) floor() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return min(spaceFloor, g.full/200)
}

func (g *spaceGauge) getMargin() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.margin
}

func (g *spaceGauge) setMargin(n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.margin = min(n, maxMargin, g.full/32)
}

// age is how old what is known of the free space may be: near the end of the disk every write looks anew.
func (g *spaceGauge) age() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.free < nearFull {
		return 0
	}
	return spaceFor
}

// freeSpace returns the store's free bytes and its total as they were at most age ago.
func (f *FS) freeSpace(ctx context.Context, age time.Duration) (free, total uint64, err error) {
	g := &f.space
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.at.IsZero() || now.Sub(g.at) >= age {
		sp, err := f.store.Space(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("look up free space: %w", err)
		}
		g.at, g.free, g.full, g.spent = now, sp.Available, sp.Total, 0
		g.step.Store(roomStep(sp.Total))
	}
	return g.free - min(g.free, g.spent), g.full, nil
}

// fits reports whether the store has need bytes beside what waits in memory to be written.
func (f *FS) fits(ctx context.Context, need uint64) (bool, error) {
	free, _, err := f.freeSpace(ctx, f.space.age())
	return free >= need+uint64(f.dirtyBytes.Load()), err
}

// pendingSpace estimates what folding all that is not folded takes on the disk while it is at work.
func (f *FS) pendingSpace() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.active.space()
	if f.frozen != nil {
		n += f.frozen.space()
	}
	return n
}

// Sizes on a disk, for estimates of what a fold writes.
const (
	objectCost = 8 << 10  // one more object: an inode, blocks that are not filled, perhaps a directory
	nameCost   = 320      // a name that is written again because its shard has changed
	pageCost   = 32 << 10 // a map page
)

// space estimates what folding the layer takes on the disk.
func (l *layer) space() uint64 { return uint64(l.bytes + l.inlineBytes + l.objectBytes) }

// countName counts, as a name of d changes, the names that are written again with it: those of a shard, of all that d has
// in the tree.
func (l *layer) countName(dd *dirDelta, stored uint32) {
	if rest := int64(stored) - dd.rewritten; rest > 0 {
		n := min(rest, maxShard)
		dd.rewritten += n
		l.objectBytes += n * nameCost
	}
}

// countPages counts the map pages that a change of a file's blocks has written anew, beside the first, which is part of
// the header.
func (l *layer) countPages(fd *fileDelta, r blockcrypt.Run) {
	first, last := r.Start/filemap.LeafBlocks, (r.Start+r.Count-1)/filemap.LeafBlocks
	if r.Kind == blockcrypt.RunHole { // what is cut off goes with its pages
		last = first
	}
	for n := max(first, 1); n <= last; n++ {
		if fd.pages[n] {
			continue
		}
		if fd.pages == nil {
			fd.pages = make(map[uint64]bool)
		}
		fd.pages[n] = true
		l.objectBytes += pageCost
	}
}

// StatFS returns the capacity of the store. What deletion after the grace will give back counts as free.
func (f *FS) StatFS(ctx context.Context) (StatFS, error) {
	sp, err := f.store.Space(ctx)
	if err != nil {
		return StatFS{}, fmt.Errorf("look up free space: %w", err)
	}
	const bs = 4096
	back := uint64(f.grave.bytes()) / bs
	return StatFS{
		BlockSize: bs, Blocks: sp.Total / bs,
		Free: min(sp.Free/bs+back, sp.Total/bs), Avail: min(sp.Available/bs+back, sp.Total/bs),
		Files: sp.Files, FreeFiles: sp.FreeFiles, MaxName: maxName,
	}, nil
}
