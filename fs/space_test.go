package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
)

// metered is a store that counts what is stored, as a disk with blocks of 4 KiB does, and that can be full.
type metered struct {
	remote.Local
	mu    sync.Mutex
	bytes int64
	space remote.Space // shown instead of the store's, unless zero
	full  bool         // nothing more can be put
}

func (m *metered) Put(ctx context.Context, name string, data []byte) error {
	m.mu.Lock()
	m.bytes += onDisk(len(data))
	full := m.full
	m.mu.Unlock()
	if full {
		return fmt.Errorf("put %s: %w", name, remote.ErrNoSpace)
	}
	return m.Local.Put(ctx, name, data)
}

func (m *metered) Create(ctx context.Context, name string) (remote.File, error) {
	f, err := m.Local.Create(ctx, name)
	return &meteredFile{File: f, m: m}, err
}

func (m *metered) Space(ctx context.Context) (remote.Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.space.Total != 0 {
		return m.space, nil
	}
	return m.Local.Space(ctx)
}

func (m *metered) setFull(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full, m.space = full, remote.Space{}
	if full {
		m.space = remote.Space{Total: 1 << 30}
	}
}

func onDisk(n int) int64 { return (int64(n) + 4095) &^ 4095 }

type meteredFile struct {
	remote.File
	m         *metered
	end, room int64
}

func (f *meteredFile) Reserve(length int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.m.full && length > f.room {
		return remote.ErrNoSpace
	}
	f.room = max(f.room, length)
	return f.File.Reserve(length)
}

func (f *meteredFile) Append(p []byte) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.end += int64(len(p))
	f.m.bytes += int64(len(p))
	if f.m.full && f.end > f.room {
		return remote.ErrNoSpace
	}
	return f.File.Append(p)
}

func newMeteredRig(t *testing.T) (*rig, *metered) {
	r := newRig(t)
	r.close()
	m := new(metered)
	r.wrap = func(st remote.Local) remote.Local { m.Local = st; return m }
	r.open()
	return r, m
}

// What a fold writes fits into the space that was kept for it.
func TestFoldFitsItsEstimate(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for name, work := range map[string]func(r *rig, rng *rand.Rand, round int){
		"small files": func(r *rig, rng *rand.Rand, round int) {
			for i := range 300 {
				r.write(fmt.Sprintf("d/%d-%d", round, i), random(rng, rng.IntN(9000)))
			}
		},
		"a few names of a large directory": func(r *rig, rng *rand.Rand, round int) {
			n := 4
			if round == 0 {
				n = 5000
			}
			for i := range n {
				r.write(fmt.Sprintf("d/%d-%d", round, i), nil)
			}
		},
		"a large file in pieces": func(r *rig, rng *rand.Rand, round int) {
			for range 40 {
				r.writeAt("d/large", random(rng, 1+rng.IntN(20_000)), rng.Int64N(300<<20))
			}
		},
		"attributes": func(r *rig, rng *rand.Rand, round int) {
			for i := range 30 {
				path := fmt.Sprintf("d/%d", i)
				r.write(path, []byte("x"))
				ino, _, err := r.fs.Resolve(t.Context(), path)
				must(t, err)
				must(t, r.fs.SetXattr(t.Context(), ino, "user.x", random(rng, rng.IntN(40_000)), 0))
				r.fs.Forget(ino, 1)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			r, m := newMeteredRig(t)
			r.mkdir("d")
			for round := range 4 {
				work(r, rng, round)
				estimate := int64(r.fs.pendingSpace())
				m.mu.Lock()
				before := m.bytes
				m.mu.Unlock()
				must(t, r.fs.Fold(t.Context()))
				if wrote := m.bytes - before; wrote > estimate {
					t.Errorf("round %d: the fold wrote %d bytes, %d were estimated", round, wrote, estimate)
				} else if round == 1 {
					t.Logf("the fold wrote %d bytes, %d were estimated", wrote, estimate)
				}
			}
		})
	}
}

func random(rng *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

func (r *rig) writeAt(path string, data []byte, off int64) {
	r.t.Helper()
	ctx := context.Background()
	ino, _, err := r.fs.Resolve(ctx, path)
	if errors.Is(err, ErrNotExist) {
		r.write(path, nil)
		ino, _, err = r.fs.Resolve(ctx, path)
	}
	must(r.t, err)
	h, err := r.fs.Open(ctx, ino)
	must(r.t, err)
	_, err = h.WriteAt(ctx, data, off, false)
	must(r.t, err)
	must(r.t, h.Flush(ctx))
	h.Close()
	r.fs.Forget(ino, 1)
}

// A fold that fails for want of space, at whatever object, loses nothing and leaves nothing behind; its number is used
// again.
func TestFoldWithoutSpace(t *testing.T) {
	ctx := t.Context()
	r, m := newMeteredRig(t)
	r.mkdir("d")
	want := make(map[string][]byte)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		name := fmt.Sprintf("d/%d", i)
		want[name] = random(rng, i*3000)
		r.write(name, want[name])
	}
	objects := func() (n int) {
		must(t, r.fs.store.List(ctx, "", func(i remote.Info) error {
			if n1, err := blockcrypt.ParseName(i.Name); err == nil && n1.Kind != blockcrypt.KindSegment {
				n++
			}
			return nil
		}))
		return n
	}
	before, number := objects(), r.fs.nextFold
	for range 5 {
		m.setFull(true)
		if err := r.fs.fold(ctx, false); !isFull(err) {
			t.Fatalf("fold: %v, want ErrNoSpace", err)
		}
		m.setFull(false)
		if n := objects(); n != before {
			t.Fatalf("%d objects, there were %d before the fold that failed", n, before)
		}
		if r.fs.nextFold != number {
			t.Fatalf("the next fold has number %d, want %d", r.fs.nextFold, number)
		}
	}
	for name, data := range want {
		if got := r.read(name); !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(data))
		}
	}
	r.close()
	r.open()
	for name, data := range want {
		if got := r.read(name); !bytes.Equal(got, data) {
			t.Errorf("after mounting again: %s: %d bytes, want %d", name, len(got), len(data))
		}
	}
}

// Bytes that were refused do not hold up others, are there again for who reads or syncs them, and their file does not take
// the place of another.
func TestRefusedWrites(t *testing.T) {
	ctx := t.Context()
	r, m := newMeteredRig(t)
	r.write("target", []byte("old"))
	r.write("victim", []byte("victim"))
	data := bytes.Repeat([]byte{5}, 100_000)
	ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), "new", 0o644, Cred{})
	must(t, err)
	_, err = h.WriteAt(ctx, data, 0, false)
	must(t, err)
	m.setFull(true)
	if err := h.Flush(ctx); !isFull(err) {
		t.Fatalf("close on a full disk: %v, want ErrNoSpace", err)
	}
	h.Close()
	if got := r.read("new"); !bytes.Equal(got, data) {
		t.Errorf("what was refused reads as %d bytes", len(got))
	}
	if err := r.fs.Rename(ctx, r.fs.Root(), "new", r.fs.Root(), "target", 0); !isFull(err) {
		t.Errorf("rename of a file whose bytes were refused: %v, want ErrNoSpace", err)
	}
	if got := r.read("target"); string(got) != "old" {
		t.Errorf("target: %q", got)
	}
	must(t, r.fs.Unlink(ctx, r.fs.Root(), "victim"))
	m.setFull(false)
	r.write("another", []byte("x"))
	if err := r.fs.Rename(ctx, r.fs.Root(), "new", r.fs.Root(), "target", 0); err != nil {
		t.Errorf("rename once there is space: %v", err)
	}
	if got := r.read("target"); !bytes.Equal(got, data) {
		t.Errorf("target after the rename: %d bytes", len(got))
	}
	r.fs.Forget(ino, 1)
	r.abandon()
	r.open()
	if got := r.read("target"); !bytes.Equal(got, data) {
		t.Errorf("target after a crash: %d bytes", len(got))
	}
}

// A removed file takes what could not be written of it with it.
func TestRefusedWritesOfARemovedFile(t *testing.T) {
	ctx := t.Context()
	r, m := newMeteredRig(t)
	ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), "new", 0o644, Cred{})
	must(t, err)
	_, err = h.WriteAt(ctx, make([]byte, 100_000), 0, false)
	must(t, err)
	m.setFull(true)
	if err := h.Flush(ctx); !isFull(err) {
		t.Fatalf("close on a full disk: %v, want ErrNoSpace", err)
	}
	h.Close()
	must(t, r.fs.Unlink(ctx, r.fs.Root(), "new"))
	r.fs.Forget(ino, 1)
	m.setFull(false)
	must(t, r.fs.Sync(ctx))
	if n := r.fs.dirtyBytes.Load(); n != 0 {
		t.Errorf("%d bytes of a removed file wait to be written", n)
	}
	if n := len(r.fs.inodes); n != 1 { // the top
		t.Errorf("%d inodes", n)
	}
}
