// Package filemap knows which block of a file lies where: the overlays of changes in memory ([Delta]), the map as a
// file's header and its pages say ([Base]), both seen as one ([View]), and the fold that writes the former into the
// latter ([Build]).
//
// It does no I/O. Pages are looked for in a [Cache]; those that are missing are named to the caller, who loads them
// without holding a lock and asks again.
package filemap

import (
	"envfs/blockcrypt"
)

// The shape of a paged map. Changing it changes the format.
const (
	// MaxBlocks bounds block numbers: a file has at most 2^52 blocks, 2^64 bytes.
	MaxBlocks = blockcrypt.MaxBlocks

	leafBits   = 12 // a leaf of runs covers 4,096 blocks, 16 MiB of file
	extentBits = 8  // a leaf of the extent table covers 256 numbers
	nodeBits   = 8  // a node has up to 256 children

	// LeafBlocks is the number of blocks that one leaf page of a map covers. No run in a paged map crosses a multiple
	// of it.
	LeafBlocks = 1 << leafBits

	maxMapHeight    = (52 - leafBits) / nodeBits
	maxExtentHeight = (32 - extentBits) / nodeBits
)

func end(r blockcrypt.Run) uint64 { return r.Start + r.Count }

// clip returns the part of r that lies in [lo, hi), which r must intersect.
func clip(r blockcrypt.Run, lo, hi uint64) blockcrypt.Run {
	if e := end(r); e > hi {
		r.Count -= e - hi
	}
	if r.Start < lo {
		d := lo - r.Start
		r.Start, r.Count = lo, r.Count-d
		if r.Kind == blockcrypt.RunExtent || r.Kind == blockcrypt.RunHeader {
			r.Slot += uint32(d)
		}
	}
	return r
}

// continues reports whether b goes on where a ends, so that the two can be one run. Runs in the journal never do: their
// Extent and Slot are somebody else's handle.
func continues(a, b blockcrypt.Run) bool {
	if a.Kind != b.Kind || end(a) != b.Start {
		return false
	}
	switch a.Kind {
	case blockcrypt.RunHole:
		return true
	case blockcrypt.RunExtent, blockcrypt.RunHeader:
		return a.Extent == b.Extent && uint64(a.Slot)+a.Count == uint64(b.Slot)
	}
	return false
}

// appendRun appends r to runs, as a part of the last of them if r continues it.
func appendRun(runs []blockcrypt.Run, r blockcrypt.Run) []blockcrypt.Run {
	if n := len(runs); n > 0 && continues(runs[n-1], r) {
		runs[n-1].Count += r.Count
		return runs
	}
	return append(runs, r)
}

// hole returns the run of a hole over [lo, hi).
func hole(lo, hi uint64) blockcrypt.Run {
	return blockcrypt.Run{Start: lo, Count: hi - lo, Kind: blockcrypt.RunHole}
}

// bound returns the end of the range of count blocks from start, at most MaxBlocks, and start if nothing is left.
func bound(start, count uint64) uint64 {
	if start >= MaxBlocks {
		return start
	}
	return start + min(count, MaxBlocks-start)
}
