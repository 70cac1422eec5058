package fs

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/remote/dir/memfs"
)

// Random work, rotated keys, rewrapping and sealing anew, on a store that is full now and then, broken off and crashed
// at any point: nothing is lost, no object is born or dies twice, and what Rewrap says is true.
func TestRewrapAtRandom(t *testing.T) {
	base := uint64(time.Now().UnixNano())
	for i := range uint64(4) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Logf("seed %d", base+i)
			x := &rotated{fullStore{rng: rand.New(rand.NewPCG(base+i, 2)), want: make(map[string][]byte)}}
			x.rig = makeRig(&rig{t: t, path: "mem", mem: memfs.New()})
			x.close()
			x.opts.Limits.Renew = 1 + x.rng.IntN(20)
			x.open()
			for range 10 {
				x.turn()
			}
		})
	}
}

type rotated struct{ fullStore }

func (x *rotated) turn() {
	ctx := x.t.Context()
	for range 15 {
		x.step()
	}
	x.mem.SetCapacity(0)
	if x.rng.IntN(5) == 0 {
		x.large(fmt.Sprint("f", x.rng.IntN(40)))
	}
	if x.rng.IntN(2) == 0 {
		x.newEpoch()
	}
	if x.rng.IntN(2) == 0 {
		sp, err := x.mem.Space()
		must(x.t, err)
		x.mem.SetCapacity(int64(sp.Total-sp.Free) + x.rng.Int64N(1<<21))
	}
	off, cancel := context.WithCancel(ctx)
	left := x.rng.IntN(200)
	var mu sync.Mutex
	if x.rng.IntN(2) == 0 {
		x.mem.Fail(func(memfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
			return nil
		})
	}
	switch x.rng.IntN(3) {
	case 0:
		if _, err := x.fs.Reencrypt(off, "/", nil); off.Err() == nil {
			x.may(err)
		}
	default:
		_, err := x.fs.Rewrap(off, func(_, _ int64) {
			if x.rng.IntN(3) == 0 {
				x.step()
			}
		})
		if off.Err() == nil {
			x.may(err)
		}
	}
	cancel()
	x.mem.Fail(nil)
	if err := x.fs.stoppedBy(); err != nil {
		x.t.Fatal(err)
	}
	x.mem.SetCapacity(0)
	x.check()
	switch x.rng.IntN(3) {
	case 0:
		x.crash()
	case 1:
		x.close()
		x.open()
	}
	x.check()
	res, err := x.fs.Rewrap(ctx, nil)
	must(x.t, err)
	use, err := x.fs.KeyUse(ctx)
	must(x.t, err)
	if use.Old() != 0 || use.Newest != res.Epoch || res.Damaged != 0 {
		x.t.Errorf("rewrapped: %+v, in use %+v", res, use)
	}
	x.sealedAsSaid()
	x.audit()
	x.check()
}

// large makes a file have a map in pages.
func (x *rotated) large(name string) {
	data := make([]byte, 20<<20)
	for n := 0; n < len(data); n += (2 + x.rng.IntN(3)) * blockcrypt.BlockSize {
		copy(data[n:], pattern(blockcrypt.BlockSize, byte(x.rng.Uint32())))
	}
	ctx := x.t.Context()
	x.write(name, nil)
	ino, _, err := x.fs.Resolve(ctx, name)
	must(x.t, err)
	defer x.fs.Forget(ino, 1)
	size := uint64(0)
	_, err = x.fs.SetAttr(ctx, ino, SetAttr{Size: &size})
	must(x.t, err)
	size = uint64(len(data))
	_, err = x.fs.SetAttr(ctx, ino, SetAttr{Size: &size})
	must(x.t, err)
	h, err := x.fs.Open(ctx, ino)
	must(x.t, err)
	defer h.Close()
	for n := 0; n < len(data); n += blockcrypt.BlockSize {
		if b := data[n : n+blockcrypt.BlockSize]; !bytes.Equal(b, make([]byte, len(b))) {
			_, err := h.WriteAt(ctx, b, int64(n), false)
			must(x.t, err)
		}
	}
	must(x.t, h.Flush(ctx))
	x.want[name] = data
}

// sealedAsSaid checks that each object of the tree is under the key epoch that root tells by its birth, and that fold
// records say of no other that it lives.
func (r *rig) sealedAsSaid() {
	r.t.Helper()
	ctx := r.t.Context()
	starts := r.fs.root.Epochs
	epoch := func(v blockcrypt.Version) (e uint32) {
		for _, s := range starts {
			if v.Birth >= s.Fold {
				e = s.Epoch
			}
		}
		return e
	}
	there := make(map[string]bool)
	prefixed := func(m *miss, v blockcrypt.Version) {
		there[m.name()] = true
		data, err := r.fs.whole(ctx, m)
		must(r.t, err)
		if got := uint32(data[32])<<24 | uint32(data[33])<<16 | uint32(data[34])<<8 | uint32(data[35]); got != epoch(v) {
			r.t.Errorf("%s is sealed under epoch %d; root says %d", m.name(), got, epoch(v))
		}
	}
	_, err := r.fs.eachDir(ctx, func(d *dirVisit) error {
		prefixed(indexMiss(d.entry.ID, d.entry.Head), d.entry.Head.Version)
		for _, s := range d.index.Shards {
			prefixed(pageMiss(blockcrypt.KindShard, d.entry.ID, s.Ref), s.Ref.Ver)
		}
		for i := range d.entries {
			e := &d.entries[i]
			if e.Type != blockcrypt.TypeRegular || e.Head.IsZero() {
				continue
			}
			m := headerMiss(e.ID, e.Head)
			prefixed(m, e.Head.Version)
			data, err := r.fs.whole(ctx, m)
			must(r.t, err)
			keys, _, _, err := r.fs.vault.OpenHeader(r.fs.keyring(), m.name(), e.ID, data)
			must(r.t, err)
			for _, k := range keys {
				if k.Epoch != epoch(e.Head.Version) || k.Born > k.Epoch {
					r.t.Errorf("%s: a data key made in epoch %d is wrapped under %d", m.name(), k.Born, k.Epoch)
				}
			}
			for _, ref := range r.pagesOf(e) {
				n := blockcrypt.Name{Kind: blockcrypt.KindMapPage, ID: e.ID, Seq: ref.Ver.Birth, R: ref.Ver.R, Extra: ref.Extra}
				there[n.String()] = true
				data, err := r.fs.store.Get(ctx, n.String(), maxObject)
				must(r.t, err)
				if got := uint32(data[32])<<24 | uint32(data[33])<<16 | uint32(data[34])<<8 | uint32(data[35]); got != epoch(ref.Ver) {
					r.t.Errorf("%s is sealed under epoch %d; root says %d", n, got, epoch(ref.Ver))
				}
			}
		}
		return nil
	})
	must(r.t, err)
	live := make(map[string]bool)
	for _, ref := range slices.Backward(append([]blockcrypt.ObjRef{r.fs.root.Fold}, r.fs.runs...)) {
		rec, err := r.fs.loadFold(ctx, ref)
		must(r.t, err)
		for _, b := range rec.Born {
			if n, err := blockcrypt.ParseName(b.Name); err == nil && n.Kind != blockcrypt.KindExtent {
				live[b.Name] = true
			}
		}
		for _, d := range rec.Dead {
			delete(live, d.Name)
		}
	}
	for name := range live {
		if !there[name] {
			r.t.Errorf("%s lives, and nothing names it", name)
		}
	}
}
