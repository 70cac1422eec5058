package filemap

import (
	"slices"
	"unsafe"

	"envfs/blockcrypt"
)

// maxChunk is the number of runs in one chunk of a Delta: large enough that the list of chunks stays short at millions
// of runs, small enough that an insertion moves few bytes.
const maxChunk = 256

const runBytes = int(unsafe.Sizeof(blockcrypt.Run{}))

// Delta is what a layer in memory says about the blocks of one file: for some ranges where they lie now, holes
// included, for all others nothing. The zero Delta says nothing at all and is ready for use; a nil *Delta can be read.
//
// A Delta is not safe for concurrent use; one that does not change any more may be read by many.
type Delta struct {
	chunks []chunk // sorted, none empty
	n      int     // runs in all chunks
}

// chunk is a piece of the sorted list of runs, which do not overlap and are maximal: no two could be one.
type chunk struct {
	first uint64 // runs[0].Start, kept here so that a search stays in one array
	runs  []blockcrypt.Run
}

// Set says where the blocks of r lie, whatever the layer said about them before. A hole is remembered as such: it hides
// what lies below. Blocks from MaxBlocks on are left out. Cost: O(log n), nearly nothing for what is set in order.
func (d *Delta) Set(r blockcrypt.Run) {
	stop := bound(r.Start, r.Count)
	if stop <= r.Start {
		return
	}
	r.Count = stop - r.Start
	if r.Kind == blockcrypt.RunHole {
		r.Extent, r.Slot = 0, 0
	}
	if len(d.chunks) == 0 || end(d.last()) <= r.Start {
		d.push(r)
		return
	}

	// Runs [a, b) give way to what is left of the first, r, and what is left of the last.
	var buf [3]blockcrypt.Run
	repl := buf[:0]
	a := d.find(r.Start)
	head := d.at(a)
	if head.Start < r.Start {
		repl = append(repl, clip(head, head.Start, r.Start))
	} else if p, ok := d.before(a); ok && continues(d.at(p), r) {
		a, repl = p, append(repl, d.at(p))
	}
	repl = appendRun(repl, r)
	b := a
	if end(head) <= stop {
		b = d.find(stop)
	} else if end(d.at(a)) <= stop { // a went back by one, head is the next
		b = d.after(a)
	}
	if b.chunk < len(d.chunks) {
		if tail := d.at(b); tail.Start < stop {
			repl = appendRun(repl, clip(tail, stop, end(tail)))
			b = d.after(b)
		} else if continues(repl[len(repl)-1], tail) {
			repl[len(repl)-1].Count += tail.Count
			b = d.after(b)
		}
	}
	d.splice(a, b, repl)
}

// pos is the place of a run: the i-th of a chunk. The place after the last run is {len(d.chunks), 0}.
type pos struct{ chunk, i int }

func (d *Delta) at(p pos) blockcrypt.Run { return d.chunks[p.chunk].runs[p.i] }

func (d *Delta) last() blockcrypt.Run {
	runs := d.chunks[len(d.chunks)-1].runs
	return runs[len(runs)-1]
}

func (d *Delta) after(p pos) pos {
	if p.i++; p.i == len(d.chunks[p.chunk].runs) {
		return pos{p.chunk + 1, 0}
	}
	return p
}

func (d *Delta) before(p pos) (pos, bool) {
	if p.i > 0 {
		return pos{p.chunk, p.i - 1}, true
	}
	if p.chunk == 0 {
		return p, false
	}
	return pos{p.chunk - 1, len(d.chunks[p.chunk-1].runs) - 1}, true
}

// find returns the place of the first run that ends after block.
func (d *Delta) find(block uint64) pos {
	lo, hi := 0, len(d.chunks) // the first chunk that begins after block
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if d.chunks[m].first > block {
			hi = m
		} else {
			lo = m + 1
		}
	}
	if lo == 0 {
		return pos{}
	}
	c := lo - 1
	runs := d.chunks[c].runs
	lo, hi = 0, len(runs)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if end(runs[m]) > block {
			hi = m
		} else {
			lo = m + 1
		}
	}
	if lo == len(runs) {
		return pos{c + 1, 0}
	}
	return pos{c, lo}
}

// push appends r behind the last run.
func (d *Delta) push(r blockcrypt.Run) {
	if len(d.chunks) == 0 {
		d.chunks = append(d.chunks, chunk{r.Start, []blockcrypt.Run{r}})
		d.n = 1
		return
	}
	c := &d.chunks[len(d.chunks)-1]
	if last := &c.runs[len(c.runs)-1]; continues(*last, r) {
		last.Count += r.Count
		return
	}
	d.n++
	if len(c.runs) < maxChunk {
		c.runs = append(c.runs, r)
		return
	}
	runs := append(make([]blockcrypt.Run, 0, maxChunk), r)
	d.chunks = append(d.chunks, chunk{r.Start, runs})
}

// splice replaces the runs [a, b) by repl, which is not empty; a is the place of a run.
func (d *Delta) splice(a, b pos, repl []blockcrypt.Run) {
	if b.i == 0 && b.chunk > a.chunk { // rather the end of the chunk before
		b.chunk--
		b.i = len(d.chunks[b.chunk].runs)
	}
	c := &d.chunks[a.chunk]
	was := len(c.runs)
	if a.chunk == b.chunk {
		c.runs = slices.Replace(c.runs, a.i, b.i, repl...)
	} else {
		rest := &d.chunks[b.chunk]
		for _, dead := range d.chunks[a.chunk+1 : b.chunk] {
			d.n -= len(dead.runs)
		}
		d.n -= b.i
		c.runs = append(c.runs[:a.i], repl...)
		gone := b.chunk
		if rest.runs = slices.Delete(rest.runs, 0, b.i); len(rest.runs) == 0 {
			gone++
		} else {
			rest.first = rest.runs[0].Start
		}
		d.chunks = slices.Delete(d.chunks, a.chunk+1, gone)
		c = &d.chunks[a.chunk]
	}
	c.first = c.runs[0].Start
	d.n += len(c.runs) - was
	switch {
	case len(c.runs) > maxChunk:
		half := len(c.runs) / 2
		right := append(make([]blockcrypt.Run, 0, maxChunk+2), c.runs[half:]...)
		c.runs = c.runs[:half]
		d.chunks = slices.Insert(d.chunks, a.chunk+1, chunk{right[0].Start, right})
	case len(c.runs) < was && a.chunk+1 < len(d.chunks):
		if next := d.chunks[a.chunk+1].runs; len(c.runs)+len(next) <= maxChunk/2 {
			c.runs = append(c.runs, next...)
			d.chunks = slices.Delete(d.chunks, a.chunk+1, a.chunk+2)
		}
	}
}

// Lookup calls fn for the count blocks from start, in order, in runs clipped to that range. Where the layer says
// nothing, known is false and only Start and Count of the run count.
func (d *Delta) Lookup(start, count uint64, fn func(r blockcrypt.Run, known bool)) {
	d.walk(start, bound(start, count), func(r blockcrypt.Run, known bool) bool {
		fn(r, known)
		return true
	})
}

// walk is Lookup over [lo, hi) until fn returns false, which it passes on.
func (d *Delta) walk(lo, hi uint64, fn func(r blockcrypt.Run, known bool) bool) bool {
	if d == nil || len(d.chunks) == 0 {
		return lo >= hi || fn(hole(lo, hi), false)
	}
	for p := d.find(lo); lo < hi; p = d.after(p) {
		if p.chunk == len(d.chunks) || d.at(p).Start >= hi {
			return fn(hole(lo, hi), false)
		}
		r := d.at(p)
		if r.Start > lo && !fn(hole(lo, r.Start), false) {
			return false
		}
		r = clip(r, lo, hi)
		if !fn(r, true) {
			return false
		}
		lo = end(r)
	}
	return true
}

// touches reports whether the layer says anything about a block in [lo, hi).
func (d *Delta) touches(lo, hi uint64) bool {
	if d == nil {
		return false
	}
	p := d.find(lo)
	return p.chunk < len(d.chunks) && d.at(p).Start < hi
}

// Runs calls fn for every run, in order, until it returns false. Runs are as long as can be.
func (d *Delta) Runs(fn func(r blockcrypt.Run) bool) {
	if d == nil {
		return
	}
	for _, c := range d.chunks {
		for _, r := range c.runs {
			if !fn(r) {
				return
			}
		}
	}
}

// Len returns the number of runs.
func (d *Delta) Len() int {
	if d == nil {
		return 0
	}
	return d.n
}

// Bytes returns an estimate of the memory that d holds, in bytes, in constant time.
func (d *Delta) Bytes() int {
	if d == nil {
		return 0
	}
	return d.n*runBytes*5/4 + len(d.chunks)*int(unsafe.Sizeof(chunk{}))
}

// Merge puts over on top of d: where over says something, d now says the same. That is how the layer of a fold that
// failed comes back under what was written since: frozen.Merge(active), and frozen is the active one again.
func (d *Delta) Merge(over *Delta) {
	over.Runs(func(r blockcrypt.Run) bool {
		d.Set(r)
		return true
	})
}

// Clone returns a copy that shares nothing with d.
func (d *Delta) Clone() *Delta {
	if d == nil {
		return &Delta{}
	}
	c := &Delta{chunks: slices.Clone(d.chunks), n: d.n}
	for i := range c.chunks {
		c.chunks[i].runs = slices.Clone(c.chunks[i].runs)
	}
	return c
}
