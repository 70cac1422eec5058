package fs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
)

// newBenchRig is a vault on a tmpfs if there is one, so that what is measured is this package.
func newBenchRig(b *testing.B) *rig {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "envfs")
	if err != nil {
		dir = b.TempDir()
	} else {
		b.Cleanup(func() { os.RemoveAll(dir) })
	}
	r := makeRig(&rig{t: b, path: dir + "/vault"})
	r.close()
	r.opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	r.opts.Manual = false // as in use
	r.open()
	return r
}

func (r *rig) newFile(name string) *File {
	ino, h, _, err := r.fs.Create(context.Background(), r.fs.Root(), name, 0o644, Cred{})
	must(r.t, err)
	r.fs.Forget(ino, 1)
	return h
}

// What creating, writing and closing a small file costs.
func BenchmarkCreate4K(b *testing.B) {
	r := newBenchRig(b)
	ctx := context.Background()
	data := pattern(4096, 1)
	b.SetBytes(4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h := r.newFile(fmt.Sprint("f", i))
		_, err := h.WriteAt(ctx, data, 0, false)
		must(b, err)
		must(b, h.Flush(ctx))
		h.Close()
	}
}

func BenchmarkWrite1M(b *testing.B) {
	r := newBenchRig(b)
	ctx := context.Background()
	h := r.newFile("f")
	data := pattern(1<<20, 1)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	const size = 256
	for i := 0; b.Loop(); i++ {
		_, err := h.WriteAt(ctx, data, int64(i%size)<<20, false)
		must(b, err)
	}
	must(b, h.Flush(ctx))
	h.Close()
}

func BenchmarkWrite4KRandom(b *testing.B) {
	r := newBenchRig(b)
	ctx := context.Background()
	h := r.newFile("f")
	const size = 256 << 20
	for off := int64(0); off < size; off += 1 << 20 {
		_, err := h.WriteAt(ctx, make([]byte, 1<<20), off, false)
		must(b, err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	data := pattern(4096, 1)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		_, err := h.WriteAt(ctx, data, rng.Int64N(size/4096)*4096, false)
		must(b, err)
	}
	must(b, h.Flush(ctx))
	h.Close()
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{4096, 128 << 10, 1 << 20} {
		for _, how := range []string{"sequential", "random"} {
			b.Run(fmt.Sprintf("%s/%dK", how, size>>10), func(b *testing.B) {
				r := newBenchRig(b)
				ctx := context.Background()
				h := r.newFile("f")
				const total = 64 << 20
				for off := int64(0); off < total; off += 1 << 20 {
					_, err := h.WriteAt(ctx, pattern(1<<20, byte(off>>20)), off, false)
					must(b, err)
				}
				must(b, h.Flush(ctx))
				must(b, r.fs.Fold(ctx))
				rng := rand.New(rand.NewPCG(1, 1))
				buf := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				off := int64(0)
				for b.Loop() {
					if how == "random" {
						off = rng.Int64N(total/int64(size)) * int64(size)
					}
					_, err := h.ReadAt(ctx, buf, off)
					must(b, err)
					off = (off + int64(size)) % total
				}
				h.Close()
			})
		}
	}
}

// What a lookup costs in a directory with many names, all of it in memory.
func BenchmarkLookup(b *testing.B) {
	r := newBenchRig(b)
	ctx := context.Background()
	const names = 20_000
	for i := range names {
		r.newFile(fmt.Sprint("f", i)).Close()
	}
	must(b, r.fs.Fold(ctx))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		ino, _, err := r.fs.Lookup(ctx, r.fs.Root(), fmt.Sprint("f", i%names))
		must(b, err)
		r.fs.Forget(ino, 1)
	}
}

// What a fold costs for each of 10,000 new files.
func BenchmarkFold10000(b *testing.B) {
	r := newBenchRig(b)
	ctx := context.Background()
	data := pattern(2000, 1)
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		for i := range 10_000 {
			h := r.newFile(fmt.Sprint("f", n, "-", i))
			_, err := h.WriteAt(ctx, data, 0, false)
			must(b, err)
			must(b, h.Flush(ctx))
			h.Close()
		}
		b.StartTimer()
		must(b, r.fs.Fold(ctx))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/file")
}

// What wrapping data keys anew costs for each of 10,000 files.
func BenchmarkRewrap10000(b *testing.B) {
	r := newBenchRig(b)
	ctx := context.Background()
	data := pattern(60_000, 1)
	for i := range 10_000 {
		h := r.newFile(fmt.Sprint("f", i))
		_, err := h.WriteAt(ctx, data[:100<<(i%10)], 0, false)
		must(b, err)
		must(b, h.Flush(ctx))
		h.Close()
	}
	must(b, r.fs.Fold(ctx))
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		r.newEpoch()
		b.StartTimer()
		res, err := r.fs.Rewrap(ctx, nil)
		must(b, err)
		if res.Files != 10_000 {
			b.Fatal(res)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/file")
}
