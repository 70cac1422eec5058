package filemap

import (
	"maps"
	"testing"

	"envfs/blockcrypt"
)

func TestDeltaAgainstModel(t *testing.T) {
	rng := newRand(t)
	for _, blocks := range []uint64{8, 64, 5000} {
		for range 20 {
			var d Delta
			m := model{}
			for i := range 600 {
				r := randomRun(rng, blocks)
				if blocks == 5000 && rng.IntN(40) != 0 {
					r.Count = min(r.Count, 1+rng.Uint64N(3))
				}
				d.Set(r)
				m.set(r)
				if blocks < 5000 && i < 100 || i%100 == 99 {
					d.check(t, m, blocks)
				}
			}
		}
	}
}

func TestDeltaManyRuns(t *testing.T) {
	rng := newRand(t)
	const blocks = 20000
	var d Delta
	m := model{}
	for range 30000 {
		r := blockcrypt.Run{
			Start: rng.Uint64N(blocks), Count: 1, Kind: blockcrypt.RunExtent, Extent: 1, Slot: rng.Uint32N(1 << 20),
		}
		d.Set(r)
		m.set(r)
	}
	d.check(t, m, blocks)
	for range 50 { // wide overwrites take whole chunks away
		r := blockcrypt.Run{Start: rng.Uint64N(blocks - 3000), Count: 1 + rng.Uint64N(3000), Kind: blockcrypt.RunHole}
		d.Set(r)
		m.set(r)
		d.check(t, m, blocks)
	}
}

func TestDeltaEdges(t *testing.T) {
	var d Delta
	d.Set(blockcrypt.Run{Start: 5, Count: 0, Kind: blockcrypt.RunExtent})
	d.Set(blockcrypt.Run{Start: MaxBlocks, Count: 1, Kind: blockcrypt.RunExtent})
	if d.Len() != 0 {
		t.Fatal("an empty run counts")
	}
	d.Set(blockcrypt.Run{Start: MaxBlocks - 2, Count: ^uint64(0), Kind: blockcrypt.RunExtent, Extent: 1})
	d.Lookup(MaxBlocks-2, ^uint64(0), func(r blockcrypt.Run, known bool) {
		if !known || r.Count != 2 {
			t.Fatalf("%+v %v", r, known)
		}
	})
	d.Set(blockcrypt.Run{Start: 0, Count: MaxBlocks})
	if d.Len() != 1 {
		t.Fatalf("%d runs", d.Len())
	}
	var none *Delta
	none.Runs(func(blockcrypt.Run) bool { t.Fatal("runs of nothing"); return true })
	if none.Len() != 0 || none.Bytes() != 0 || none.Clone().Len() != 0 || none.touches(0, MaxBlocks) {
		t.Fatal("a nil delta says something")
	}
	calls := 0
	none.Lookup(3, 4, func(r blockcrypt.Run, known bool) {
		if calls++; known || r.Start != 3 || r.Count != 4 {
			t.Fatalf("%+v %v", r, known)
		}
	})
	if calls != 1 {
		t.Fatalf("%d calls", calls)
	}
}

func TestDeltaMergeAndClone(t *testing.T) {
	rng := newRand(t)
	for range 50 {
		var below, above Delta
		mb, ma := model{}, model{}
		for range 40 {
			r := randomRun(rng, 500)
			below.Set(r)
			mb.set(r)
			r = randomRun(rng, 500)
			above.Set(r)
			ma.set(r)
		}
		was := below.Clone()
		below.Merge(&above)
		was.check(t, mb, 500)
		above.check(t, ma, 500)
		maps.Copy(mb, ma)
		below.check(t, mb, 500)
	}
}

func TestDeltaAppendDoesNotAllocate(t *testing.T) {
	var d Delta
	var at uint64
	d.Set(blockcrypt.Run{Start: at, Count: 1, Kind: blockcrypt.RunExtent, Extent: 1})
	allocs := testing.AllocsPerRun(10000, func() {
		at++
		d.Set(blockcrypt.Run{Start: at, Count: 1, Kind: blockcrypt.RunExtent, Extent: 1, Slot: uint32(at)})
	})
	if allocs != 0 || d.Len() != 1 {
		t.Fatalf("%v allocations an append, %d runs", allocs, d.Len())
	}
}

func FuzzDelta(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Fuzz(func(t *testing.T, in []byte) {
		const blocks = 64
		var d Delta
		m := model{}
		for ; len(in) >= 4; in = in[4:] {
			r := blockcrypt.Run{
				Start: uint64(in[0]) % blocks, Count: uint64(in[1]) % 16,
				Kind: blockcrypt.RunKind(in[2] % 4), Extent: uint32(in[2] >> 6), Slot: uint32(in[3]),
			}
			r.Count = min(r.Count, blocks-r.Start)
			if r.Kind == blockcrypt.RunHole {
				r.Extent, r.Slot = 0, 0
			}
			d.Set(r)
			m.set(r)
		}
		d.check(t, m, blocks)
	})
}

func BenchmarkDeltaAppend(b *testing.B) {
	b.ReportAllocs()
	var d Delta
	for i := range b.N {
		d.Set(blockcrypt.Run{Start: uint64(i), Count: 1, Kind: blockcrypt.RunExtent, Extent: uint32(i >> 10), Slot: uint32(i & 1023)})
	}
}

func BenchmarkDeltaRandom1M(b *testing.B) {
	b.ReportAllocs()
	const n = 1 << 20
	var d Delta
	for i := range b.N {
		if i%n == 0 {
			d = Delta{}
		}
		block := uint64(i) * 2654435761 % n * 2 // a permutation; even blocks only, so that no two runs join
		d.Set(blockcrypt.Run{Start: block, Count: 1, Kind: blockcrypt.RunExtent, Extent: uint32(i >> 20), Slot: uint32(i)})
	}
	b.ReportMetric(float64(d.Bytes())/float64(d.Len()), "B/run")
}

func BenchmarkDeltaLookup1M(b *testing.B) {
	b.ReportAllocs()
	const n = 1 << 20
	var d Delta
	for i := range uint64(n) {
		d.Set(blockcrypt.Run{Start: 2 * i, Count: 1, Kind: blockcrypt.RunExtent, Extent: 1, Slot: uint32(i)})
	}
	b.ResetTimer()
	for i := range b.N {
		d.Lookup(uint64(i)*2654435761%n*2, 1, func(blockcrypt.Run, bool) {})
	}
}
