package filemap

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"envfs/blockcrypt"
)

// file is a file as fs keeps it, with a model of its map beside it and pages in memory.
type file struct {
	t      testing.TB
	rng    *rand.Rand
	pages  map[blockcrypt.PageRef][]byte
	loads  int
	emits  int
	header *blockcrypt.Header

	active, frozen *Delta
	size           uint64 // blocks
	frozenSize     uint64
	model          model // of all layers
	frozenModel    model // of base and frozen layer

	extents       map[uint32]*blockcrypt.ExtentInfo // of the active layer: the table does not have them yet
	frozenExtents map[uint32]*blockcrypt.ExtentInfo
	current       *blockcrypt.ExtentInfo
	next          uint32
}

func newFile(t testing.TB, rng *rand.Rand) *file {
	return &file{
		t: t, rng: rng, pages: map[blockcrypt.PageRef][]byte{}, active: &Delta{}, model: model{},
		header: &blockcrypt.Header{}, extents: map[uint32]*blockcrypt.ExtentInfo{},
	}
}

func (f *file) load(_ context.Context, key PageKey) (*Page, error) {
	f.loads++
	body, ok := f.pages[key.Ref]
	if !ok {
		return nil, errors.New("no such page")
	}
	return DecodePage(key, body)
}

func (f *file) emit(_ PageKind, body []byte) (blockcrypt.PageRef, error) {
	f.emits++
	ref := blockcrypt.PageRef{Hash: blockcrypt.Sum(body)}
	binary.BigEndian.PutUint64(ref.Extra[:], uint64(len(f.pages)+1))
	f.pages[ref] = slices.Clone(body)
	return ref, nil
}

// reachable returns the pages that a header refers to and their content.
func (f *file) reachable(h *blockcrypt.Header) (refs map[blockcrypt.PageRef]bool, m model, extents []blockcrypt.ExtentInfo) {
	refs, m = map[blockcrypt.PageRef]bool{}, model{}
	for _, r := range h.Runs {
		m.set(r)
	}
	t := &tree{kind: RunPage, load: f.load}
	err := t.visit(f.t.Context(), PageKey{Ref: h.MapTop, Kind: RunPage, Height: h.MapHeight}, func(p *Page) {
		for _, l := range p.runs {
			m.set(l.unpack(p.first))
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
	extents, pages, err := Objects(f.t.Context(), h, f.load)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, ref := range pages {
		refs[ref] = true
	}
	for _, ref := range t.died {
		if !refs[ref] {
			f.t.Fatalf("Objects leaves page %v out", ref)
		}
	}
	return refs, m, extents
}

// write puts blocks of new content at a place.
func (f *file) write(start, count uint64) {
	f.size = max(f.size, start+count)
	for count > 0 {
		n := min(count, 1024)
		f.set(f.place(f.extents, start, n))
		start, count = start+n, count-n
	}
}

// place gives blocks fresh slots, most often behind the last ones.
func (f *file) place(extents map[uint32]*blockcrypt.ExtentInfo, start, count uint64) blockcrypt.Run {
	x := f.current
	if x == nil || uint64(x.Slots)+count > 1024 || f.rng.IntN(50) == 0 {
		if f.rng.IntN(20) == 0 {
			f.next += f.rng.Uint32N(2000) // numbers need not be dense
		}
		x = &blockcrypt.ExtentInfo{Number: f.next, DEK: 1}
		binary.BigEndian.PutUint32(x.Generation[:], f.next)
		f.next++
		f.current = x
		extents[x.Number] = x
	}
	r := blockcrypt.Run{Start: start, Count: count, Kind: blockcrypt.RunExtent, Extent: x.Number, Slot: x.Slots}
	x.Slots += uint32(count)
	x.Length = uint64(x.Slots) * blockcrypt.ExtentRecordSize
	return r
}

func (f *file) set(r blockcrypt.Run) {
	f.active.Set(r)
	f.model.set(r)
}

func (f *file) punch(start, count uint64) {
	f.active.Set(hole(start, start+count))
	for b := range f.model {
		if b >= start && b-start < count {
			delete(f.model, b)
		}
	}
}

func (f *file) truncate(size uint64) {
	if size < f.size {
		f.punch(size, MaxBlocks-size)
	}
	f.size = size
}

func (f *file) freeze() {
	f.frozen, f.active = f.active, &Delta{}
	f.frozenSize, f.frozenModel = f.size, maps.Clone(f.model)
	f.frozenExtents, f.extents, f.current = f.extents, map[uint32]*blockcrypt.ExtentInfo{}, nil
}

// unfreeze is what follows a fold that failed.
func (f *file) unfreeze() {
	f.frozen.Merge(f.active)
	f.active, f.frozen, f.frozenModel = f.frozen, nil, nil
	maps.Copy(f.extents, f.frozenExtents)
}

// moveJournal gives blocks that lie in the journal a place in an extent, as the caller of Build has to.
func (f *file) moveJournal() *Delta {
	d := f.frozen.Clone()
	f.current = nil
	defer func() { f.current = nil }()
	f.frozen.Runs(func(r blockcrypt.Run) bool {
		if r.Kind != blockcrypt.RunJournal || r.Start >= f.frozenSize {
			return true
		}
		moved := f.place(f.frozenExtents, r.Start, 1)
		d.Set(moved)
		if f.model[r.Start] == placeAt(r, r.Start) { // not written since
			f.model.set(moved)
		}
		f.frozenModel.set(moved)
		return true
	})
	return d
}

func (f *file) input(d *Delta) FoldInput {
	in := FoldInput{
		Header: f.header, Delta: d, Blocks: f.frozenSize, NextExt: f.next, Load: f.load, Emit: f.emit,
	}
	for _, n := range slices.Sorted(maps.Keys(f.frozenExtents)) {
		in.Changed = append(in.Changed, *f.frozenExtents[n])
	}
	return in
}

// fold folds the frozen layer and checks all that Build promises.
func (f *file) fold(d *Delta) *FoldOutput {
	t := f.t
	t.Helper()
	in := f.input(d)
	before, _, table := f.reachable(f.header)
	old := map[blockcrypt.PageRef]bool{} // pages that are to be written anew
	if f.rng.IntN(3) == 0 {
		for ref := range before {
			old[ref] = f.rng.IntN(3) > 0
		}
		in.Old = func(ref blockcrypt.PageRef) bool { return old[ref] }
	}
	out, err := Build(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	h := &blockcrypt.Header{}
	out.Apply(h)
	after, got, now := f.reachable(h)

	if want := f.frozenModel.places(f.frozenSize); !maps.Equal(got, want) {
		t.Fatalf("the map has %d blocks, want %d", len(got), len(want))
	}
	f.checkTable(got, table, now, in.Changed, out)
	died := map[blockcrypt.PageRef]bool{}
	for _, ref := range out.Died {
		if died[ref] || !before[ref] || after[ref] {
			t.Fatalf("page died twice, was not there, or is still there: %v", ref)
		}
		died[ref] = true
	}
	for ref := range before {
		if !after[ref] && !died[ref] {
			t.Fatalf("page vanished: %v", ref)
		}
		if after[ref] && old[ref] {
			t.Fatalf("page is as old as before: %v", ref)
		}
	}
	if f.frozenSize <= Unpaged && !h.MapTop.IsZero() {
		t.Fatalf("a file of %d blocks has a map in pages", f.frozenSize)
	}
	f.header, f.frozen, f.frozenModel = h, nil, nil
	return out
}

// checkTable recounts the extent table from a map.
func (f *file) checkTable(m model, before, after, changed []blockcrypt.ExtentInfo, out *FoldOutput) {
	t := f.t
	t.Helper()
	live := map[uint32]uint32{}
	for _, p := range m {
		live[p.extent]++
	}
	want := map[uint32]blockcrypt.ExtentInfo{}
	for _, x := range slices.Concat(before, changed) {
		want[x.Number] = x
	}
	dead := map[uint32]bool{}
	for n, x := range want {
		if x.Live = live[n]; x.Live == 0 {
			dead[n] = true
			delete(want, n)
			continue
		}
		want[n] = x
	}
	if len(after) != len(want) || out.ExtentsMore != len(after)-len(before) {
		t.Fatalf("%d extents (%+d), want %d", len(after), out.ExtentsMore, len(want))
	}
	for i, x := range after {
		if x != want[x.Number] || i > 0 && x.Number <= after[i-1].Number {
			t.Fatalf("extent %+v, want %+v", x, want[x.Number])
		}
	}
	for _, x := range out.Dead {
		if !dead[x.Number] || x.Live != 0 {
			t.Fatalf("extent %d is called dead", x.Number)
		}
		delete(dead, x.Number)
	}
	if len(dead) > 0 {
		t.Fatalf("%d extents died unnoticed", len(dead))
	}
	for _, x := range out.Sparse {
		if x != want[x.Number] || 2*x.Live >= x.Slots {
			t.Fatalf("extent called sparse: %+v", x)
		}
	}
}

// forgetful is a cache that has but some of the pages.
type forgetful map[blockcrypt.PageRef]*Page

func (c forgetful) Get(ref blockcrypt.PageRef) (any, bool) {
	p, ok := c[ref]
	return p, ok
}

// resolve resolves a range of all layers, loading pages as they are missing.
func (f *file) resolve(start, count uint64) []blockcrypt.Run {
	f.t.Helper()
	v, cache := f.view()
	for range 10000 {
		runs, missing, err := v.Resolve(nil, start, count)
		if err != nil {
			f.t.Fatal(err)
		}
		if missing == nil {
			return runs
		}
		f.fill(cache, missing)
	}
	f.t.Fatal("pages are missing for ever")
	return nil
}

func (f *file) view() (View, forgetful) {
	base, err := NewBase(f.header)
	if err != nil {
		f.t.Fatal(err)
	}
	cache := forgetful{}
	return View{Over: []*Delta{f.active, f.frozen}, Base: base, Pages: cache}, cache
}

func (f *file) fill(cache forgetful, missing []PageKey) {
	f.t.Helper()
	for _, key := range missing {
		p, err := f.load(f.t.Context(), key)
		if err != nil {
			f.t.Fatal(err)
		}
		cache[key.Ref] = p
	}
}

// check compares what the layers say with the model.
func (f *file) check() {
	f.t.Helper()
	got := model{}
	var at uint64
	var last blockcrypt.Run
	for i, r := range f.resolve(0, MaxBlocks) {
		if r.Start != at || i > 0 && continues(last, r) {
			f.t.Fatalf("run %+v behind %+v", r, last)
		}
		at, last = end(r), r
		if r.Kind != blockcrypt.RunHole {
			got.set(r)
		}
	}
	if want := f.model.places(MaxBlocks); at != MaxBlocks || !maps.Equal(got, want) {
		f.t.Fatalf("the view has %d blocks, want %d", len(got), len(want))
	}
}

// step does one random thing to a file.
func (f *file) step(spread uint64) {
	at, many := f.rng.Uint64N(spread), 600
	if spread > 1<<20 { // there each block takes a leaf and nodes of its own
		many = 40
	}
	switch f.rng.IntN(40) {
	case 0:
		f.punch(at, 1+f.rng.Uint64N(spread))
	case 1:
		f.truncate(f.rng.Uint64N(spread))
	case 2:
		f.truncate(f.size + f.rng.Uint64N(100))
	case 3:
		f.write(at, 1+f.rng.Uint64N(3000))
	case 4:
		if f.rng.IntN(4) == 0 {
			f.write(1<<40+f.rng.Uint64N(1<<30), 1+f.rng.Uint64N(4))
		}
	case 5, 6:
		f.size = max(f.size, at+1)
		f.set(blockcrypt.Run{Start: at, Count: 1, Kind: blockcrypt.RunJournal, Slot: f.rng.Uint32()})
	case 7, 8, 9, 10: // makes the map large
		for range f.rng.IntN(many) {
			f.write(f.rng.Uint64N(spread), 1)
		}
	case 11: // makes the extent table large
		for range f.rng.IntN(many / 2) {
			f.write(f.rng.Uint64N(spread), 1)
			f.current = nil
		}
	default:
		f.write(at, 1+f.rng.Uint64N(20))
	}
}

// failingFold begins a fold that breaks off at some page: it must leave no trace but pages that nothing refers to.
func (f *file) failingFold(d *Delta) {
	f.t.Helper()
	full := errors.New("disk full")
	left := f.rng.IntN(3)
	in := f.input(d)
	in.Emit = func(kind PageKind, body []byte) (blockcrypt.PageRef, error) {
		if left--; left < 0 {
			return blockcrypt.PageRef{}, full
		}
		return f.emit(kind, body)
	}
	if _, err := Build(f.t.Context(), in); left < 0 != errors.Is(err, full) {
		f.t.Fatalf("a page could not be written; the fold says %v", err)
	}
}

func TestFoldAgainstModel(t *testing.T) {
	rng := newRand(t)
	spreads := []uint64{3, 200, 5000, 60000, 1 << 20, 1 << 34, 1 << 52}
	for i := range 3 * len(spreads) {
		spread := spreads[i%len(spreads)]
		f := newFile(t, rng)
		var form [2][2]int // of map and table: folds after which it is in the header, in pages
		for i := range 60 {
			for range rng.IntN(8) {
				f.step(spread - min(spread/2, 4096))
			}
			switch {
			case f.frozen == nil:
				f.freeze()
			case rng.IntN(3) == 0:
				f.unfreeze()
			default:
				d := f.moveJournal()
				if rng.IntN(4) == 0 {
					f.failingFold(d)
				}
				f.fold(d)
				for i, top := range []blockcrypt.PageRef{f.header.MapTop, f.header.ExtTop} {
					if top.IsZero() {
						form[i][0]++
					} else {
						form[i][1]++
					}
				}
			}
			if i%4 == 0 {
				f.check()
			}
		}
		t.Logf("spread %d: map, table in {header, pages} %v; %d loads, %d pages", spread, form, f.loads, f.emits)
	}
}

// The map of a file of up to Unpaged blocks lies in its header, however large it once was, and however large the
// numbers in it are.
func TestUnpaged(t *testing.T) {
	rng := newRand(t)
	paged := 0
	for range 200 {
		f := newFile(t, rng)
		extents := map[uint32]*blockcrypt.ExtentInfo{}
		for n := range uint32(20) {
			x := &blockcrypt.ExtentInfo{Number: n<<27 + rng.Uint32N(1<<27), DEK: 1, Slots: 1 << 20}
			binary.BigEndian.PutUint32(x.Generation[:], x.Number)
			extents[x.Number] = x
		}
		f.next = 1<<32 - 1
		numbers := slices.Collect(maps.Keys(extents))
		for _, size := range []uint64{1 + rng.Uint64N(4*LeafBlocks), Unpaged} {
			for b := range min(size, 2*Unpaged) {
				f.set(blockcrypt.Run{Start: b, Count: 1, Kind: blockcrypt.RunExtent, Extent: numbers[rng.IntN(len(numbers))], Slot: rng.Uint32N(1 << 20)})
			}
			for range min(size, 500) {
				f.set(blockcrypt.Run{Start: rng.Uint64N(size), Count: 1, Kind: blockcrypt.RunExtent, Extent: numbers[rng.IntN(len(numbers))], Slot: rng.Uint32N(1 << 20)})
			}
			f.size = max(f.size, size)
			f.truncate(size)
			f.extents = maps.Clone(extents) // also those that have died
			f.freeze()
			f.fold(f.frozen)
			if !f.header.MapTop.IsZero() {
				paged++
			}
		}
	}
	if paged == 0 {
		t.Error("no map was ever in pages")
	}
}
