package fs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
)

// stored returns how many bytes the extents on the store have, and how many there are.
func (r *rig) stored() (bytes int64, count int) {
	r.t.Helper()
	must(r.t, r.fs.store.List(r.t.Context(), "files/", func(i remote.Info) error {
		if n, err := blockcrypt.ParseName(i.Name); err == nil && n.Kind == blockcrypt.KindExtent {
			bytes += i.Size
			count++
		}
		return nil
	}))
	return bytes, count
}

// settle folds, rewrites and folds, and has the grace pass.
func (r *rig) settle(clock *fixedClock) (moved int64) {
	r.t.Helper()
	ctx := r.t.Context()
	must(r.t, r.fs.Fold(ctx))
	for {
		n, err := r.fs.Rewrite(ctx)
		must(r.t, err)
		if n == 0 {
			break
		}
		moved += n
		must(r.t, r.fs.Fold(ctx))
	}
	clock.now = clock.now.Add(48 * time.Hour)
	r.write("touch", []byte(clock.now.String()))
	must(r.t, r.fs.Fold(ctx))
	return moved
}

func newRewriteRig(t *testing.T) (*rig, *fixedClock) {
	r := newRig(t)
	r.close()
	clock := &fixedClock{now: time.Now()}
	r.opts.Clock, r.opts.Limits.Extent = clock, 256
	r.open()
	return r, clock
}

// A file that is overwritten again and again does not grow on the store, and what moving costs is bounded.
func TestOverwrittenFileStaysSmall(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	r, clock := newRewriteRig(t)
	const size = 4 << 20
	want := random(rng, size)
	r.writeAt("file", want, 0)
	written, moved := int64(size), int64(0)
	for range 25 {
		for range 8 {
			off, data := rng.Int64N(size-50_000)&^4095, random(rng, 49_152)
			r.writeAt("file", data, off)
			copy(want[off:], data)
			written += int64(len(data))
		}
		moved += r.settle(clock)
		if got := r.read("file"); !bytes.Equal(got, want) {
			t.Fatal("the file is not what was written")
		}
	}
	bytes1, count := r.stored()
	t.Logf("%d bytes in %d extents for a file of %d; %d written, %d moved", bytes1, count, size, written, moved)
	if bytes1 > 5*size/2 {
		t.Errorf("%d bytes on the store for a file of %d", bytes1, size)
	}
	if moved == 0 || 2*moved > written+moveStep*blockcrypt.BlockSize {
		t.Errorf("%d bytes were moved for %d written", moved, written)
	}
	res, err := r.fs.Check(t.Context(), CheckOptions{}, func(fd Finding) { t.Errorf("check: %+v", fd) })
	must(t, err)
	if res.Damaged > 0 {
		t.Errorf("%d damages", res.Damaged)
	}
	r.close()
	r.open()
	if got := r.read("file"); !bytes.Equal(got, want) {
		t.Error("after mounting again the file is not what was written")
	}
}

// A file that grows by little after little has few extents.
func TestSmallExtentsAreMerged(t *testing.T) {
	r, clock := newRewriteRig(t)
	var want []byte
	for i := range 120 {
		data := pattern(8192, byte(i))
		r.writeAt("file", data, int64(len(want)))
		want = append(want, data...)
		if i%3 == 0 {
			must(t, r.fs.Fold(t.Context())) // what is little goes to an extent with each fold
		}
	}
	_, before := r.stored()
	r.settle(clock)
	_, middle := r.stored()
	r.fs.sparse.earn(len(want)) // others write
	r.settle(clock)
	_, after := r.stored()
	t.Logf("%d extents, then %d, then %d", before, middle, after)
	if before < 20 || middle > before*2/3 || after > rowOfSmall+2 {
		t.Errorf("%d extents are left of %d", after, before)
	}
	if got := r.read("file"); !bytes.Equal(got, want) {
		t.Error("the file is not what was written")
	}
}

// What happens to a file between the reading of a block and its move counts.
func TestMoveOfWhatChanges(t *testing.T) {
	for name, change := range map[string]func(r *rig, want []byte) []byte{
		"written": func(r *rig, want []byte) []byte {
			data := pattern(200_000, 9)
			r.writeAt("file", data, 0)
			copy(want, data)
			return want
		},
		"cut off": func(r *rig, want []byte) []byte {
			ino, _, err := r.fs.Resolve(r.t.Context(), "file")
			must(r.t, err)
			for _, size := range []uint64{100_000, uint64(len(want))} {
				_, err = r.fs.SetAttr(r.t.Context(), ino, SetAttr{Size: &size})
				must(r.t, err)
			}
			r.fs.Forget(ino, 1)
			clear(want[100_000:])
			return want
		},
		"removed": func(r *rig, want []byte) []byte {
			must(r.t, r.fs.Unlink(r.t.Context(), r.fs.Root(), "file"))
			r.write("file", []byte("another"))
			return []byte("another")
		},
		"linked": func(r *rig, want []byte) []byte {
			ino, _, err := r.fs.Resolve(r.t.Context(), "file")
			must(r.t, err)
			_, _, err = r.fs.Link(r.t.Context(), ino, r.fs.Root(), "name")
			must(r.t, err)
			r.fs.Forget(ino, 2)
			return want
		},
		"folded": func(r *rig, want []byte) []byte {
			r.writeAt("file", want[:50_000], 0)
			must(r.t, r.fs.Fold(r.t.Context()))
			return want
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRewriteRig(t)
			w := r.watch()
			want := pattern(2<<20, 1)
			r.writeAt("file", want, 0)
			part := pattern(700_000, 2) // most of the first extent dies
			r.writeAt("file", part, 0)
			copy(want, part)
			must(t, r.fs.Fold(t.Context()))
			done := false
			w.reading = func(object string) {
				if !done {
					done = true
					want = change(r, want)
				}
			}
			moved, err := r.fs.Rewrite(t.Context())
			must(t, err)
			if !done {
				t.Fatal("nothing was to be moved")
			}
			t.Logf("%d bytes moved", moved)
			for range 2 {
				if got := r.read("file"); !bytes.Equal(got, want) {
					t.Error("the file is not what was done to it last")
				}
				must(t, r.fs.Fold(t.Context()))
			}
			r.abandon()
			r.open()
			if got := r.read("file"); !bytes.Equal(got, want) {
				t.Error("after a crash the file is not what was done to it last")
			}
		})
	}
}

// Blocks that are written, cut off or removed while they are moved are what was done to them last.
func TestRewriteAgainstWriters(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r, _ := newRewriteRig(t)
	ctx := t.Context()
	done := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			r.fs.sparse.credit.Store(maxCredit)
			if _, err := r.fs.Rewrite(ctx); err != nil {
				t.Errorf("rewrite: %v", err)
				return
			}
			if err := r.fs.Fold(ctx); err != nil {
				t.Errorf("fold: %v", err)
				return
			}
		}
	})
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			name := fmt.Sprint("file", w)
			var want []byte
			r.write(name, nil)
			for range 300 {
				switch rng.IntN(12) {
				case 0:
					size := uint64(rng.IntN(len(want) + 1))
					ino, _, err := r.fs.Resolve(ctx, name)
					must(t, err)
					_, err = r.fs.SetAttr(ctx, ino, SetAttr{Size: &size})
					must(t, err)
					r.fs.Forget(ino, 1)
					want = want[:size]
				case 1:
					must(t, r.fs.Unlink(ctx, r.fs.Root(), name))
					r.write(name, nil)
					want = nil
				case 2:
					other := name + "x"
					must(t, r.fs.Rename(ctx, r.fs.Root(), name, r.fs.Root(), other, 0))
					must(t, r.fs.Rename(ctx, r.fs.Root(), other, r.fs.Root(), name, 0))
				default:
					off := rng.IntN(len(want) + 1)
					data := random(rng, rng.IntN(100_000))
					r.writeAt(name, data, int64(off))
					if end := off + len(data); end > len(want) {
						want = append(want, make([]byte, end-len(want))...)
					}
					copy(want[off:], data)
				}
				if rng.IntN(10) == 0 && !bytes.Equal(r.read(name), want) {
					t.Errorf("%s is not what was written", name)
					return
				}
			}
			if !bytes.Equal(r.read(name), want) {
				t.Errorf("at the end %s is not what was written", name)
			}
		})
	}
	writers.Wait()
	close(done)
	background.Wait()
}
