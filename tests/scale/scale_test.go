// Package scale makes vaults of the size that envfs is meant for.
package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"envfs/fs"
	"envfs/tests/mountpoint"
)

const (
	many  = 100_000 // names in one directory
	dirs  = 1_000
	each  = 100 // files in each of them
	large = 4 << 30
)

// maxHeap is twice what docs/DESIGN.md adds up to, as the garbage collector lets the heap grow to that, in bytes.
const maxHeap = 768 << 20

// world is an open vault.
type world struct {
	*testing.T
	f     *fs.FS
	rng   *rand.Rand
	at    map[int64]bool // offsets in the large file where it has something
	began time.Time
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) lap(what string) {
	w.Logf("%6.1f s  %s", time.Since(w.began).Seconds(), what)
	w.began = time.Now()
}

// find returns the inode of a path; the reference to it is not given back.
func (w *world) find(path string) *fs.Inode {
	w.Helper()
	ino, _, err := w.f.Resolve(w.Context(), path)
	w.ok(err)
	return ino
}

func (w *world) mkdir(name string) *fs.Inode {
	w.Helper()
	ino, _, err := w.f.Mkdir(w.Context(), w.f.Root(), name, 0o755, fs.Cred{})
	w.ok(err)
	return ino
}

// make makes a file that begins with data at each of some offsets.
func (w *world) make(dir *fs.Inode, name string, data []byte, at ...int64) {
	w.Helper()
	ino, h, _, err := w.f.Create(w.Context(), dir, name, 0o644, fs.Cred{})
	w.ok(err)
	for _, off := range at {
		if off > 0 {
			copy(data, fmt.Sprint(off))
		}
		_, err := h.WriteAt(w.Context(), data, off, false)
		w.ok(err)
	}
	w.ok(h.Flush(w.Context()))
	h.Close()
	w.f.Forget(ino, 1)
}

// begins tells whether a file has data at an offset.
func (w *world) begins(path, data string, off int64) {
	w.Helper()
	ino := w.find(path)
	defer w.f.Forget(ino, 1)
	h, err := w.f.Open(w.Context(), ino)
	w.ok(err)
	defer h.Close()
	buf := make([]byte, len(data))
	if _, err := h.ReadAt(w.Context(), buf, off); err != nil || string(buf) != data {
		w.Fatalf("%s at %d: %q (%v), want %q", path, off, buf, err, data)
	}
}

// A tree of 200,000 files, half of them in one directory, and a file of 4 GiB: made with folds meanwhile, read, changed,
// opened again, checked and removed, in bounded memory.
func TestScale(t *testing.T) {
	v := mountpoint.NewVault(t)
	w := &world{T: t, f: v.Open(t, fs.Options{}), rng: rand.New(rand.NewPCG(1, 1)), at: map[int64]bool{large - 1<<20: true}, began: time.Now()}
	ctx := t.Context()
	peak := watchHeap(t)
	w.fill()
	w.verify()
	w.lap("read")
	w.ok(w.f.Close(ctx))
	w.f = v.Open(t, fs.Options{})
	w.lap("closed and opened")
	w.verify()
	w.lap("read again")
	d := w.find("many")
	w.make(d, "one more", nil)
	w.ok(w.f.Unlink(ctx, d, "one more"))
	w.ok(w.f.Fold(ctx))
	w.lap("fold of one name among 100,000")
	res, err := w.f.Check(ctx, fs.CheckOptions{}, func(fd fs.Finding) { t.Errorf("check: %+v", fd) })
	w.ok(err)
	if res.Files != many+dirs*each+1 {
		t.Errorf("check has seen %d files", res.Files)
	}
	w.lap("check")
	for i := range many {
		w.ok(w.f.Unlink(ctx, d, fmt.Sprint("name", i)))
	}
	w.ok(w.f.Rmdir(ctx, w.f.Root(), "many"))
	w.ok(w.f.Close(ctx))
	w.lap("100,000 names removed, and closed")
	if most := peak(); most > maxHeap {
		t.Errorf("%d MiB of memory, at most %d are meant", most>>20, maxHeap>>20)
	} else {
		t.Logf("at most %d MiB of memory", most>>20)
	}
}

func (w *world) fill() {
	d := w.mkdir("many")
	for i := range many {
		w.make(d, fmt.Sprint("name", i), nil)
	}
	w.lap("100,000 names in one directory")
	for i := range dirs {
		d := w.mkdir(fmt.Sprint("d", i))
		for k := range each {
			w.make(d, fmt.Sprint("f", k), fmt.Appendf(nil, "%d/%d", i, k), 0)
		}
	}
	w.lap("100,000 small files in 1,000 directories")
	for range 100 {
		w.at[(1+w.rng.Int64N(large>>20-1))<<20] = true
	}
	var at []int64
	for off := range w.at {
		at = append(at, off)
	}
	w.make(w.f.Root(), "large", bytes.Repeat([]byte{7}, 1<<20), at...)
	w.lap("a file of 4 GiB")
	w.ok(w.f.Fold(w.Context()))
	w.lap("fold")
}

func (w *world) verify() {
	w.Helper()
	d := w.find("many")
	defer w.f.Forget(d, 1)
	seen, last := 0, uint64(0)
	w.ok(w.f.ReadDir(w.Context(), d, 0, func(e fs.DirEntry) bool {
		if seen++; e.Cookie <= last {
			w.Fatalf("%s is out of order", e.Name)
		}
		last = e.Cookie
		return true
	}))
	if seen != many+2 { // with . and ..
		w.Fatalf("%d names", seen)
	}
	for range 300 {
		i, k := w.rng.IntN(dirs), w.rng.IntN(each)
		w.begins(fmt.Sprintf("d%d/f%d", i, k), fmt.Sprintf("%d/%d", i, k), 0)
		w.f.Forget(w.find(fmt.Sprint("many/name", w.rng.IntN(many))), 1)
	}
	if _, _, err := w.f.Lookup(w.Context(), d, "name"); !errors.Is(err, fs.ErrNotExist) {
		w.Errorf("a name that is not there: %v", err)
	}
	for off := range w.at {
		w.begins("large", fmt.Sprint(off), off)
	}
}

// watchHeap samples the heap in use until its result is called, which returns the most there was, in bytes.
func watchHeap(t *testing.T) func() uint64 {
	ctx, cancel := context.WithCancel(t.Context())
	peak := make(chan uint64)
	go func() {
		var most uint64
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-ctx.Done():
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		cancel()
		return <-peak
	}
}
