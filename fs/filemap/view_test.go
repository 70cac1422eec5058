package filemap

import (
	"errors"
	"testing"

	"envfs/blockcrypt"
)

// seek is SEEK_DATA and SEEK_HOLE by the model.
func (m model) seek(offset, size uint64, data bool) (uint64, bool) {
	b := offset / blockcrypt.BlockSize
	isData := func(b uint64) bool { return m[b].kind != blockcrypt.RunHole }
	if data {
		next := uint64(MaxBlocks)
		for c := range m {
			if c >= b && c < next && isData(c) {
				next = c
			}
		}
		b = next
	} else {
		for isData(b) {
			b++
		}
	}
	if at := max(offset, b*blockcrypt.BlockSize); b < MaxBlocks && at < size {
		return at, true
	}
	return size, !data
}

func TestSeekAndPartialRanges(t *testing.T) {
	rng := newRand(t)
	for range 20 {
		f := newFile(t, rng)
		for range 3 {
			f.step(20000)
			f.step(20000)
			f.foldNow()
		}
		f.step(20000)
		f.freeze()
		f.step(20000)
		if f.size == 0 {
			continue
		}
		size := f.size*blockcrypt.BlockSize - rng.Uint64N(blockcrypt.BlockSize)
		for range 40 {
			off := rng.Uint64N(size)
			for _, data := range []bool{true, false} {
				got, ok := f.seek(off, size, data)
				want, wantOK := f.model.seek(off, size, data)
				if ok != wantOK || ok && got != want {
					t.Fatalf("seek from %d, data %v: %d %v, want %d %v", off, data, got, ok, want, wantOK)
				}
			}
			start, count := rng.Uint64N(25000), 1+rng.Uint64N(300)
			at := start
			for _, r := range f.resolve(start, count) {
				if r.Start != at {
					t.Fatalf("run %+v at %d", r, at)
				}
				for ; at < end(r); at++ {
					want := f.model[at]
					if placeAt(r, at) != want {
						t.Fatalf("block %d: %+v, want %+v", at, r, want)
					}
				}
			}
			if at != start+count {
				t.Fatalf("resolved up to %d of %d", at, start+count)
			}
		}
	}
}

// seek seeks with a cache that is empty at first.
func (f *file) seek(offset, size uint64, data bool) (uint64, bool) {
	f.t.Helper()
	v, cache := f.view()
	seek := v.Hole
	if data {
		seek = v.Data
	}
	for {
		at, ok, missing, err := seek(offset, size)
		if err != nil {
			f.t.Fatal(err)
		}
		if missing == nil {
			return at, ok
		}
		f.fill(cache, missing)
	}
}

func TestSeekAtTheEnd(t *testing.T) {
	var v View
	for _, tc := range []struct{ offset, size uint64 }{{0, 0}, {5, 5}, {9, 5}} {
		if _, ok, _, _ := v.Data(tc.offset, tc.size); ok {
			t.Errorf("data at %d of %d", tc.offset, tc.size)
		}
		if _, ok, _, _ := v.Hole(tc.offset, tc.size); ok {
			t.Errorf("hole at %d of %d", tc.offset, tc.size)
		}
	}
	if at, ok, _, _ := v.Hole(3, 1<<63-1); at != 3 || !ok {
		t.Errorf("an empty file begins with %d %v", at, ok)
	}
	if _, ok, _, _ := v.Data(3, 1<<63-1); ok {
		t.Error("an empty file has data")
	}
}

func TestExtentLookup(t *testing.T) {
	rng := newRand(t)
	for _, steps := range []int{2, 60} {
		f := newFile(t, rng)
		for range steps {
			f.step(20000)
		}
		f.foldNow()
		_, _, table := f.reachable(f.header)
		want := map[uint32]blockcrypt.ExtentInfo{}
		for _, x := range table {
			want[x.Number] = x
		}
		v, cache := f.view()
		for n := range f.next + 1000 {
			x, ok, missing, err := v.Base.Extent(n, cache)
			for missing != nil {
				f.fill(cache, missing)
				x, ok, missing, err = v.Base.Extent(n, cache)
			}
			w, wok := want[n]
			if err != nil || ok != wok || x != w {
				t.Fatalf("extent %d: %+v %v %v, want %+v %v", n, x, ok, err, w, wok)
			}
		}
	}
}

func TestResolveAllocatesLittle(t *testing.T) {
	f := scattered(t)
	f.freeze()
	out, err := Build(t.Context(), f.input(f.frozen))
	if err != nil {
		t.Fatal(err)
	}
	f.frozen = nil
	out.Apply(f.header)
	f.active = &Delta{}
	f.active.Set(blockcrypt.Run{Start: 5000, Count: 1, Kind: blockcrypt.RunJournal})
	v, cache := f.view()
	runs := make([]blockcrypt.Run, 0, 64)
	for {
		_, missing, err := v.Resolve(runs, 4990, 20)
		if err != nil {
			t.Fatal(err)
		}
		if missing == nil {
			break
		}
		f.fill(cache, missing)
	}
	n := testing.AllocsPerRun(100, func() {
		got, _, _ := v.Resolve(runs[:0], 4990, 20)
		if len(got) != 20 {
			t.Errorf("%d runs", len(got))
		}
	})
	if n > 2 { // the walker and its function
		t.Fatalf("%v allocations", n)
	}
}

func TestContradictionsAreDamage(t *testing.T) {
	ext := func(n, slots, live uint32) blockcrypt.ExtentInfo {
		return blockcrypt.ExtentInfo{Number: n, Slots: slots, Live: live}
	}
	run := func(start, count uint64, x uint32) blockcrypt.Run {
		return blockcrypt.Run{Start: start, Count: count, Kind: blockcrypt.RunExtent, Extent: x}
	}
	ref := blockcrypt.PageRef{Hash: blockcrypt.Hash{1}}
	for name, h := range map[string]blockcrypt.Header{
		"overlapping runs":     {Runs: []blockcrypt.Run{run(0, 2, 0), run(1, 1, 0)}},
		"empty run":            {Runs: []blockcrypt.Run{run(0, 0, 0)}},
		"run past the end":     {Runs: []blockcrypt.Run{run(MaxBlocks-1, 2, 0)}},
		"endless run":          {Runs: []blockcrypt.Run{run(1, ^uint64(0), 0)}},
		"hole":                 {Runs: []blockcrypt.Run{hole(0, 1)}},
		"journal":              {Runs: []blockcrypt.Run{{Count: 1, Kind: blockcrypt.RunJournal}}},
		"no such inline block": {Runs: []blockcrypt.Run{{Count: 2, Kind: blockcrypt.RunHeader}}, InlineLen: []uint32{1}},
		"two maps":             {Runs: []blockcrypt.Run{run(0, 2, 0)}, MapTop: ref},
		"height without top":   {MapHeight: 1},
		"too high":             {MapTop: ref, MapHeight: 6},
		"table too high":       {ExtTop: ref, ExtHeight: 4},
		"extents out of order": {Extents: []blockcrypt.ExtentInfo{ext(2, 1, 1), ext(1, 1, 1)}, NextExt: 3},
		"extent of the future": {Extents: []blockcrypt.ExtentInfo{ext(3, 1, 1)}, NextExt: 3},
		"more live than slots": {Extents: []blockcrypt.ExtentInfo{ext(0, 1, 2)}, NextExt: 1},
		"dead extent":          {Extents: []blockcrypt.ExtentInfo{ext(0, 1, 0)}, NextExt: 1},
	} {
		if _, err := NewBase(&h); !errors.Is(err, blockcrypt.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}

	var over Delta
	over.Set(run(0, 2, 0))
	lost := &blockcrypt.Header{ // the map names two blocks of extent 0, the table knows of one
		Runs: []blockcrypt.Run{run(0, 2, 0)}, Extents: []blockcrypt.ExtentInfo{ext(0, 4, 1)}, NextExt: 1,
	}
	for name, in := range map[string]FoldInput{
		"unknown extent": {Delta: &over, Blocks: 2, NextExt: 1},
		"too few live":   {Header: lost, NextExt: 1},
		"too few slots":  {Delta: &over, Blocks: 2, NextExt: 1, Changed: []blockcrypt.ExtentInfo{ext(0, 1, 0)}},
	} {
		if _, err := Build(t.Context(), in); !errors.Is(err, blockcrypt.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var journal Delta
	journal.Set(blockcrypt.Run{Count: 1, Kind: blockcrypt.RunJournal})
	for name, in := range map[string]FoldInput{
		"journal":      {Delta: &journal, Blocks: 1},
		"out of order": {Changed: []blockcrypt.ExtentInfo{ext(1, 1, 0), ext(1, 1, 0)}, NextExt: 2},
		"no next":      {Changed: []blockcrypt.ExtentInfo{ext(1, 1, 0)}, NextExt: 1},
		"next back":    {Header: &blockcrypt.Header{NextExt: 2}, NextExt: 1},
		"too large":    {Blocks: MaxBlocks + 1},
	} {
		if _, err := Build(t.Context(), in); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if out, err := Build(t.Context(), FoldInput{Delta: &journal, Blocks: 0}); err != nil || len(out.Runs) != 0 {
		t.Errorf("a block in the journal beyond the end: %v", err)
	}
}

func TestPagesThatStandElsewhere(t *testing.T) {
	f := scattered(t)
	f.freeze()
	out, err := Build(t.Context(), f.input(f.frozen))
	if err != nil {
		t.Fatal(err)
	}
	f.frozen = nil
	out.Apply(f.header)
	v, cache := f.view()
	top := PageKey{Ref: out.MapTop, Kind: RunPage, Height: 1}
	f.fill(cache, []PageKey{top})
	node := cache[top.Ref]
	one, two := node.childKey(node.children[1]), node.childKey(node.children[2])
	f.fill(cache, []PageKey{one, two})
	cache[one.Ref], cache[two.Ref] = cache[two.Ref], cache[one.Ref]
	if _, _, err := v.Resolve(nil, LeafBlocks, 1); !errors.Is(err, blockcrypt.ErrDamaged) {
		t.Errorf("swapped pages: %v", err)
	}
	for name, key := range map[string]PageKey{
		"elsewhere": {Ref: one.Ref, Kind: RunPage, First: two.First},
		"a node":    {Ref: one.Ref, Kind: RunPage, First: one.First, Height: 1},
		"extents":   {Ref: one.Ref, Kind: ExtentPage, First: one.First},
		"nothing":   {Ref: one.Ref, First: one.First},
	} {
		if _, err := DecodePage(key, f.pages[one.Ref]); err == nil {
			t.Errorf("%s: a leaf passes for it", name)
		}
	}
}

func FuzzDecodePage(f *testing.F) {
	leaf, _ := blockcrypt.EncodeRunPage(4096, []blockcrypt.Run{{Start: 4100, Count: 7, Kind: blockcrypt.RunExtent, Extent: 3, Slot: 9}})
	f.Add(uint8(1), uint8(0), uint64(4096), leaf)
	extents, _ := blockcrypt.EncodeExtentPage(256, []blockcrypt.ExtentInfo{{Number: 300, Slots: 2, Live: 1}})
	f.Add(uint8(2), uint8(0), uint64(256), extents)
	node, _ := blockcrypt.EncodeNodePage(1, 0, []blockcrypt.NodeChild{{Index: 3, Ref: blockcrypt.PageRef{Extra: blockcrypt.Extra{1}}}})
	f.Add(uint8(1), uint8(1), uint64(0), node)
	f.Fuzz(func(t *testing.T, kind, height uint8, first uint64, body []byte) {
		key := PageKey{Kind: PageKind(kind), Height: height, First: first, Ref: blockcrypt.PageRef{Hash: blockcrypt.Hash{1}}}
		p, err := DecodePage(key, body)
		if err != nil {
			return
		}
		if !p.is(key) || p.Size() <= 0 {
			t.Fatal("a page that is another")
		}
		if p.kind == RunPage && height <= maxMapHeight {
			b := &Base{top: key.Ref, height: height}
			w := walker{pages: forgetful{key.Ref: p}, limit: 1, fn: func(blockcrypt.Run) bool { return true }}
			w.page(key, first, first+RunPage.span(height))
			_, _ = b.Lookup(0, MaxBlocks, forgetful{}, func(blockcrypt.Run) {})
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	f := scattered(b)
	f.freeze()
	out, err := Build(b.Context(), f.input(f.frozen))
	if err != nil {
		b.Fatal(err)
	}
	f.frozen = nil
	out.Apply(f.header)
	v, cache := f.view()
	for {
		_, missing, err := v.Resolve(nil, 0, blocks4GiB)
		if err != nil {
			b.Fatal(err)
		}
		if missing == nil {
			break
		}
		f.fill(cache, missing)
	}
	runs := make([]blockcrypt.Run, 0, 64)
	b.ReportAllocs()
	var i uint64
	for b.Loop() {
		i++
		v.Resolve(runs[:0], i*2654435761%blocks4GiB, 1)
	}
}
