package filemap

import (
	"math/rand/v2"
	"testing"

	"envfs/blockcrypt"
)

const blocks4GiB = 1 << 20

// foldNow folds what was written to f.
func (f *file) foldNow() *FoldOutput {
	f.t.Helper()
	f.freeze()
	f.emits = 0
	return f.fold(f.moveJournal())
}

// scattered returns a file of 4 GiB in which no two neighbours lie beside each other, so that every leaf is full.
func scattered(t testing.TB) *file {
	f := newFile(t, rand.New(rand.NewPCG(1, 2)))
	var slots [blocks4GiB / 1024]uint32
	for b := range uint64(blocks4GiB) {
		x := uint32(b) * 2654435761 % uint32(len(slots))
		f.active.Set(blockcrypt.Run{Start: b, Count: 1, Kind: blockcrypt.RunExtent, Extent: x, Slot: slots[x]})
		slots[x]++
	}
	for n, count := range slots {
		f.extents[uint32(n)] = &blockcrypt.ExtentInfo{Number: uint32(n), DEK: 1, Slots: count}
	}
	f.next = uint32(len(slots))
	f.size = blocks4GiB
	return f
}

func TestFoldWritesOnlyWhatChanged(t *testing.T) {
	f := scattered(t)
	f.freeze()
	in := f.input(f.frozen)
	out, err := Build(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	// 256 leaves and their node; four leaves of the extent table and theirs.
	if f.emits != 256+1+4+1 || out.MapHeight != 1 || len(out.Died)+len(out.Dead)+len(out.Sparse) != 0 {
		t.Fatalf("%d pages, height %d", f.emits, out.MapHeight)
	}
	for ref, body := range f.pages {
		if len(body) > 33<<10 { // 8 bytes a block
			t.Fatalf("page %v has %d bytes", ref.Extra, len(body))
		}
	}
	h := &blockcrypt.Header{}
	out.Apply(h)

	var d Delta
	d.Set(blockcrypt.Run{Start: 777777, Count: 1, Kind: blockcrypt.RunExtent, Extent: f.next, Slot: 0})
	f.emits, f.loads = 0, 0
	out, err = Build(t.Context(), FoldInput{
		Header: h, Delta: &d, Blocks: blocks4GiB, Load: f.load, Emit: f.emit, NextExt: f.next + 1,
		Changed: []blockcrypt.ExtentInfo{{Number: f.next, DEK: 1, Slots: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Map: one leaf and the top. Table: the leaf of the extent that lost a block, that of the new one, and the top.
	if f.emits != 2+3 || len(out.Died) != 2+2 {
		t.Fatalf("one block changed: %d pages written, %d died", f.emits, len(out.Died))
	}
	if f.loads > 8 {
		t.Fatalf("one block changed: %d pages loaded", f.loads)
	}
}

func TestFoldOfReplacedFileLoadsNoLeaf(t *testing.T) {
	for name, write := range map[string]uint64{"truncated": 0, "written anew": blocks4GiB} {
		t.Run(name, func(t *testing.T) {
			f := scattered(t)
			f.freeze()
			out, err := Build(t.Context(), f.input(f.frozen))
			if err != nil {
				t.Fatal(err)
			}
			h := &blockcrypt.Header{}
			out.Apply(h)
			f.loads = 0
			in := FoldInput{Header: h, Delta: &Delta{}, Blocks: write, NextExt: f.next, Load: f.load, Emit: f.emit}
			for b := uint64(0); b < write; b += 4096 {
				in.Delta.Set(blockcrypt.Run{Start: b, Count: 4096, Kind: blockcrypt.RunExtent, Extent: in.NextExt})
				in.Changed = append(in.Changed, blockcrypt.ExtentInfo{Number: in.NextExt, Slots: 4096})
				in.NextExt++
			}
			pages := len(f.pages)
			if out, err = Build(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			if f.loads > 20 || len(out.Died) != pages || len(out.Dead) != 1024 {
				t.Fatalf("%d pages loaded, %d of %d died, %d extents dead", f.loads, len(out.Died), pages, len(out.Dead))
			}
			if uint64(len(out.Runs)) != write/4096 {
				t.Fatalf("%d runs in the header", len(out.Runs))
			}
		})
	}
}

// TestFoldEqualsRebuild folds in steps and then all at once: the content must be the same.
func TestFoldEqualsRebuild(t *testing.T) {
	rng := newRand(t)
	for range 10 {
		f := newFile(t, rng)
		all := newFile(t, rng)
		for range 10 {
			for range 10 {
				f.step(100000)
			}
			f.foldNow()
		}
		_, m, table := f.reachable(f.header)
		all.size, all.next = f.size, f.header.NextExt
		for b, p := range m {
			all.set(blockcrypt.Run{Start: b, Count: 1, Kind: p.kind, Extent: p.extent, Slot: p.slot})
		}
		for i := range table {
			all.extents[table[i].Number] = &table[i]
		}
		all.foldNow()
		f.active, all.active = &Delta{}, &Delta{}
		a, b := f.resolve(0, MaxBlocks), all.resolve(0, MaxBlocks)
		if len(a) != len(b) {
			t.Fatalf("%d runs, rebuilt %d", len(a), len(b))
		}
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("run %+v, rebuilt %+v", a[i], b[i])
			}
		}
	}
}

// TestFormsOfAMap sees a map go from the header into pages and back.
func TestFormsOfAMap(t *testing.T) {
	const step = 50
	f := newFile(t, newRand(t))
	size := uint64(0)
	for f.header.MapTop.IsZero() {
		for range step {
			f.write(2*size, 1)
			size++
		}
		f.foldNow()
	}
	if size*3 > maxInHeader || size*6 < maxInHeader { // a run takes 4 to 6 bytes
		t.Fatalf("the map left the header with %d runs", size)
	}
	for b := uint64(0); !f.header.MapTop.IsZero(); b += step {
		f.punch(2*b, 2*step)
		f.foldNow()
		if b > size {
			t.Fatal("the map does not come back")
		}
	}
	if left := uint64(len(f.header.Runs)); left < size/4 || left > size*3/4 {
		t.Fatalf("the map of %d runs came back with %d", size, left)
	}
	f.check()
}

func BenchmarkFoldRandom1M(b *testing.B) {
	f := scattered(b)
	f.freeze()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(b.Context(), f.input(f.frozen)); err != nil {
			b.Fatal(err)
		}
	}
}
