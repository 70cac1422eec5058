package filemap

import (
	"envfs/blockcrypt"
)

// A map, or an extent table, lies in the header until its encoding there passes maxInHeader bytes, and comes back when
// it is under minInPages: far enough apart that it does not go back and forth.
const (
	maxInHeader = 8 << 10
	minInPages  = 4 << 10
)

// runSize returns how many bytes r takes in a header behind another run, which may be the zero Run.
func runSize(prev, r blockcrypt.Run) int {
	n := uintSize(r.Start-end(prev)) + uintSize(r.Count<<2) + uintSize(uint64(r.Slot))
	if r.Kind == blockcrypt.RunExtent {
		n += uintSize(uint64(max(r.Extent, prev.Extent) - min(r.Extent, prev.Extent)))
	}
	return n
}

// minRunSize is the least that runSize returns, maxRunSize the most for a file of less than 2^14 blocks.
const (
	minRunSize = 3
	maxRunSize = 3 + 3 + 5 + 5
)

// Unpaged is up to how many blocks of a file its map always lies in its header, also if it once was larger.
const Unpaged = minInPages / maxRunSize

// extentSize returns how many bytes a line of the extent table takes in a header.
func extentSize(e *blockcrypt.ExtentInfo) int {
	const fixed = 1 + (1 + len(e.Ver.R)) + (1 + len(e.Extra)) + (1 + len(e.Generation))
	n := fixed + uintSize(uint64(e.Number)) + uintSize(e.Ver.Birth) + uintSize(e.Length)
	for _, v := range [...]uint32{e.DEK, e.Slots, e.Live, e.CRC32C} {
		n += uintSize(uint64(v))
	}
	return n
}

// uintSize returns the length of n in CBOR.
func uintSize(n uint64) int {
	switch {
	case n < 24:
		return 1
	case n < 1<<8:
		return 2
	case n < 1<<16:
		return 3
	case n < 1<<32:
		return 5
	}
	return 9
}
