package filemap

import (
	"math/rand/v2"
	"testing"
	"time"

	"envfs/blockcrypt"
)

// place is where one block lies.
type place struct {
	kind   blockcrypt.RunKind
	extent uint32
	slot   uint32
}

// model is a map in its plainest form. A block that it does not name is unknown (of a layer) or a hole (of a file).
type model map[uint64]place

// placeAt returns where the block of r lies.
func placeAt(r blockcrypt.Run, block uint64) place {
	p := place{r.Kind, r.Extent, r.Slot}
	if r.Kind == blockcrypt.RunExtent || r.Kind == blockcrypt.RunHeader {
		p.slot += uint32(block - r.Start)
	}
	return p
}

func (m model) set(r blockcrypt.Run) {
	for b := r.Start; b < end(r); b++ {
		m[b] = placeAt(r, b)
	}
}

// newRand returns a generator and logs its seed.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// randomRun returns a run in the first blocks of a file.
func randomRun(rng *rand.Rand, blocks uint64) blockcrypt.Run {
	r := blockcrypt.Run{Start: rng.Uint64N(blocks), Count: 1 + rng.Uint64N(1+rng.Uint64N(blocks/4))}
	r.Count = min(r.Count, blocks-r.Start)
	switch rng.IntN(6) {
	case 0:
		r.Kind = blockcrypt.RunHole
	case 1:
		r.Kind, r.Count, r.Slot = blockcrypt.RunJournal, 1, rng.Uint32N(3)
	case 2: // likely to continue a neighbour
		r.Kind, r.Extent, r.Slot = blockcrypt.RunExtent, 1, uint32(r.Start)
	default:
		r.Kind, r.Extent, r.Slot = blockcrypt.RunExtent, 1+rng.Uint32N(4), rng.Uint32N(1000)
	}
	return r
}

// check compares a delta with the model, and checks what a Delta promises of its own form.
func (d *Delta) check(t testing.TB, m model, blocks uint64) {
	t.Helper()
	n := 0
	var runs []blockcrypt.Run
	for i, c := range d.chunks {
		if len(c.runs) == 0 || len(c.runs) > maxChunk || c.first != c.runs[0].Start {
			t.Fatalf("chunk %d: first %d, %d runs from %d", i, c.first, len(c.runs), c.runs[0].Start)
		}
		n += len(c.runs)
		runs = append(runs, c.runs...)
	}
	if n != d.Len() {
		t.Fatalf("Len %d, there are %d runs", d.Len(), n)
	}
	for i := 1; i < len(runs); i++ {
		if end(runs[i-1]) > runs[i].Start || continues(runs[i-1], runs[i]) {
			t.Fatalf("runs %+v, %+v", runs[i-1], runs[i])
		}
	}
	var next uint64
	d.Lookup(0, blocks, func(r blockcrypt.Run, known bool) {
		if r.Start != next || r.Count == 0 {
			t.Fatalf("run %+v, expected one at %d", r, next)
		}
		next = end(r)
		for b := r.Start; b < next; b++ {
			want, ok := m[b]
			if ok != known || known && want != placeAt(r, b) {
				t.Fatalf("block %d: %+v %v, want %+v %v", b, placeAt(r, b), known, want, ok)
			}
		}
	})
	if next != blocks {
		t.Fatalf("walk ended at %d of %d", next, blocks)
	}
}

// places returns a file's map as the model has it: without holes, nothing from block size on.
func (m model) places(size uint64) model {
	out := model{}
	for b, p := range m {
		if b < size && p.kind != blockcrypt.RunHole {
			out[b] = p
		}
	}
	return out
}
