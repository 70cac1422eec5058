package fs

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"envfs/remote/dir/memfs"
)

// fullStore is a random workload on a store that is full now and then, at any byte.
type fullStore struct {
	*rig
	rng     *rand.Rand
	want    map[string][]byte // what was acknowledged; nil: was refused, so may be there or not
	refused int
}

// The store is full again and again, at any byte of whatever is being written. What was acknowledged is there, what frees
// space works, and writing never stops.
func TestFullStore(t *testing.T) {
	fullSeeds := []uint64{6, 21, 25, 49} // by which a build is found that takes no claims
	base := uint64(time.Now().UnixNano())
	for i := range uint64(8) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			seed := base + i
			if i < uint64(len(fullSeeds)) {
				seed = fullSeeds[i]
			}
			t.Logf("seed %d", seed)
			x := &fullStore{rng: rand.New(rand.NewPCG(seed, 1)), want: make(map[string][]byte)}
			x.rig = makeRig(&rig{t: t, path: "mem", mem: memfs.New()})
			for range 12 {
				x.round()
			}
			if x.refused == 0 {
				t.Error("the store was never full")
			}
		})
	}
}

func (x *fullStore) round() {
	for range 20 {
		x.step()
	}
	// As much as is used, and a little: the next writes end somewhere.
	sp, err := x.mem.Space()
	must(x.t, err)
	used := int64(sp.Total - sp.Free)
	x.mem.SetCapacity(used + x.rng.Int64N(1<<20))
	for range 60 {
		x.step()
	}
	x.check()
	x.removeSome()
	if x.rng.IntN(2) == 0 {
		x.mem.SetCapacity(0)
	}
	if x.rng.IntN(3) == 0 {
		x.mem.SetCapacity(0) // opening replaces root
		if x.rng.IntN(2) == 0 {
			x.abandon()
		} else {
			x.close()
		}
		x.open()
	}
	x.check()
	x.mem.SetCapacity(0)
}

// step does one operation, which may be refused.
func (x *fullStore) step() {
	x.t.Helper()
	ctx := x.t.Context()
	name := fmt.Sprint("f", x.rng.IntN(40))
	switch x.rng.IntN(8) {
	case 0:
		_, known := x.want[name]
		if err := x.fs.Unlink(ctx, x.fs.Root(), name); err == nil || !known {
			delete(x.want, name)
		} else {
			x.may(err)
		}
	case 1:
		to := fmt.Sprint("f", x.rng.IntN(40))
		data, known := x.want[name]
		if !known || data == nil || to == name {
			return
		}
		if err := x.fs.Rename(ctx, x.fs.Root(), name, x.fs.Root(), to, 0); !x.may(err) {
			return
		}
		x.want[to] = data
		delete(x.want, name)
	case 2:
		x.may(x.fs.Fold(ctx))
	case 3:
		x.may(x.fs.Sync(ctx))
	default:
		x.put(name, random(x.rng, x.rng.IntN(1+x.rng.IntN(200_000))))
	}
	if err := x.fs.stoppedBy(); err != nil {
		x.t.Fatal(err)
	}
}

// may reports whether an operation succeeded; it may be refused for want of space.
func (x *fullStore) may(err error) bool {
	x.t.Helper()
	if err != nil && !isFull(err) {
		x.t.Fatal(err)
	}
	if err != nil {
		x.refused++
	}
	return err == nil
}

// put writes a whole file.
func (x *fullStore) put(name string, data []byte) {
	x.t.Helper()
	ctx := x.t.Context()
	ino, _, err := x.fs.Lookup(ctx, x.fs.Root(), name)
	var h *File
	if err == nil {
		if h, err = x.fs.Open(ctx, ino); err == nil {
			size := uint64(0)
			if _, err = x.fs.SetAttr(ctx, ino, SetAttr{Size: &size}); !x.may(err) {
				x.want[name] = nil
			}
		}
	} else if ino, h, _, err = x.fs.Create(ctx, x.fs.Root(), name, 0o644, Cred{}); !x.may(err) {
		return
	}
	if err == nil {
		x.want[name] = nil
		if _, err = h.WriteAt(ctx, data, 0, false); x.may(err) && x.may(h.Flush(ctx)) {
			x.want[name] = data
		}
	}
	if h != nil {
		h.Close()
	}
	x.fs.Forget(ino, 1)
}

func (x *fullStore) check() {
	x.t.Helper()
	names := make(map[string]bool)
	for _, name := range x.names("/") {
		names[name] = true
		if _, known := x.want[name]; !known {
			x.t.Fatalf("%s is there, but was removed or never made", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(x.want)) {
		if want := x.want[name]; want != nil && (!names[name] || !bytes.Equal(x.read(name), want)) {
			x.t.Fatalf("%s is not what was acknowledged", name)
		}
	}
}

// removeSome removes files, which always works.
func (x *fullStore) removeSome() {
	x.t.Helper()
	for _, name := range x.names("/") {
		if x.rng.IntN(2) == 0 {
			continue
		}
		if err := x.fs.Unlink(x.t.Context(), x.fs.Root(), name); err != nil {
			x.t.Fatalf("remove %s from a full store: %v", name, err)
		}
		delete(x.want, name)
	}
}
