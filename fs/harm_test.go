package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"envfs/blockcrypt"
)

// objectsOf is the pattern of the objects of one kind that belong to what lies at path.
func (r *rig) objectsOf(path, kind string) string {
	r.t.Helper()
	ino, _, err := r.fs.Resolve(r.t.Context(), path)
	must(r.t, err)
	defer r.fs.Forget(ino, 1)
	return fmt.Sprintf("*/??/%s.%s*", ino.ID(), kind)
}

// forget drops what is decoded of the tree, as want of memory would.
func (r *rig) forget() {
	r.fs.cache = newCache(r.fs.opts.Limits.Cache)
	r.fs.readers = make(map[[16]byte]*extentReader)
}

// crash ends as kill -9 does, and opens again.
func (r *rig) crash() {
	r.t.Helper()
	r.abandon()
	r.open()
}

// readAt reads a part of a file.
func (r *rig) readAt(path string, off int64, n int) ([]byte, error) {
	r.t.Helper()
	ctx := r.t.Context()
	ino, _, err := r.fs.Resolve(ctx, path)
	must(r.t, err)
	defer r.fs.Forget(ino, 1)
	h, err := r.fs.Open(ctx, ino)
	must(r.t, err)
	defer h.Close()
	p := make([]byte, n)
	n, err = h.ReadAt(ctx, p, off)
	return p[:n], err
}

// everywhere calls look in each of the states that folds, crashes and ends lead to.
func (r *rig) everywhere(look func(when string)) {
	r.t.Helper()
	ctx := context.Background()
	look("before")
	must(r.t, r.fs.Fold(ctx))
	look("after a fold")
	r.write("between", pattern(50_000, 9))
	must(r.t, r.fs.Fold(ctx))
	look("after another fold")
	r.crash()
	look("after a crash")
	must(r.t, r.fs.Fold(ctx))
	look("after a fold behind a crash")
	r.close()
	r.open()
	look("after a clean end")
	must(r.t, r.fs.Fold(ctx))
	r.crash()
	look("after all that again")
}

// A file whose header is damaged keeps nothing else from being folded, and the journal keeps what was written to it.
func TestDamagedHeaderHarmsOneFile(t *testing.T) {
	r := newRig(t)
	size := 100_000
	r.write("bad", pattern(size, 1))
	r.write("good", pattern(size, 2))
	r.mkdir("d")
	must(t, r.fs.Fold(t.Context()))
	r.writeAt("bad", pattern(50, 3), 5*blockcrypt.BlockSize)
	r.writeAt("bad", pattern(8*blockcrypt.BlockSize, 4), 8*blockcrypt.BlockSize)
	r.writeAt("good", pattern(size, 5), 0)
	r.write("d/x", pattern(size, 6))
	must(t, r.fs.Sync(t.Context()))
	r.spoil(r.objectsOf("bad", "h"))
	r.forget()
	r.everywhere(func(when string) {
		if !bytes.Equal(r.read("good"), pattern(size, 5)) || !bytes.Equal(r.read("d/x"), pattern(size, 6)) {
			t.Errorf("%s: other files are harmed", when)
		}
		if got, err := r.readAt("bad", 5*blockcrypt.BlockSize, 50); err != nil || !bytes.Equal(got, pattern(50, 3)) {
			t.Errorf("%s: what was written to the damaged file since: %v", when, err)
		}
		if _, err := r.readAt("bad", 0, 10); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: what the damaged header names: %v", when, err)
		}
		if e := r.fs.root; when != "before" && e.Cut == 0 {
			t.Errorf("%s: nothing was folded", when)
		}
	})
	if bytes, inline := r.fs.active.fresh(); bytes != 0 || inline != 0 {
		must(t, r.fs.Fold(t.Context()))
		if bytes, inline := r.fs.active.fresh(); bytes != 0 || inline != 0 {
			t.Errorf("after a fold %d bytes wait for a fold, %d of content", bytes, inline)
		}
	}
	must(t, r.fs.Unlink(t.Context(), r.fs.Root(), "bad"))
	must(t, r.fs.Fold(t.Context()))
	if !r.fs.active.empty() {
		t.Error("the damaged file is removed, but its deltas are carried on")
	}
	_, err := r.fs.Check(t.Context(), CheckOptions{}, func(fd Finding) { t.Errorf("check: %+v", fd) })
	must(t, err)
}

// A directory whose index, or a shard of it, is damaged keeps nothing else from being folded, and the journal keeps what
// was done in it and below it.
func TestDamagedDirectoryHarmsItself(t *testing.T) {
	for _, c := range []struct {
		kind  string
		names int
	}{{"d", 3}, {"s", 1500}} {
		t.Run(c.kind, func(t *testing.T) {
			ctx := t.Context()
			r := newRig(t)
			r.mkdir("bad")
			r.mkdir("bad/sub")
			for i := range c.names {
				r.write(fmt.Sprint("bad/", i), pattern(10, byte(i)))
			}
			r.write("good", pattern(100_000, 1))
			must(t, r.fs.Fold(ctx))
			d := mustDir(r, "bad")
			must(t, r.fs.Unlink(ctx, d, "0"))
			must(t, r.fs.Rename(ctx, d, "1", d, "one", 0))
			r.write("bad/new", pattern(30_000, 7))
			r.write("bad/sub/y", pattern(100, 8))
			r.write("good", pattern(100_000, 2))
			r.fs.Forget(d, 1)
			must(t, r.fs.Sync(ctx))
			r.spoil(r.objectsOf("bad", c.kind))
			r.forget()
			r.everywhere(func(when string) {
				if !bytes.Equal(r.read("good"), pattern(100_000, 2)) {
					t.Errorf("%s: another file is harmed", when)
				}
				for name, want := range map[string][]byte{"bad/new": pattern(30_000, 7), "bad/one": pattern(10, 1), "bad/sub/y": pattern(100, 8)} {
					if got := r.read(name); !bytes.Equal(got, want) {
						t.Errorf("%s: %s is not what was written", when, name)
					}
				}
				for _, name := range []string{"bad/0", "bad/1"} {
					if _, _, err := r.fs.Resolve(ctx, name); !errors.Is(err, ErrNotExist) {
						t.Errorf("%s: %s: %v", when, name, err)
					}
				}
			})
		})
	}
}

// What cannot be saved, as its file is damaged, is an error of that file alone.
func TestUnsavableFileHoldsUpNobody(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	size := 100_000
	r.write("bad", pattern(size, 1))
	r.write("good", pattern(size, 2))
	r.close()
	r.open()
	r.spoil(r.objectsOf("bad", "h"))
	ino, _, err := r.fs.Resolve(ctx, "bad")
	must(t, err)
	h, err := r.fs.Open(ctx, ino)
	must(t, err)
	_, err = h.WriteAt(ctx, pattern(10*blockcrypt.BlockSize, 3), 0, false)
	must(t, err)
	if err := h.Flush(ctx); !errors.Is(err, ErrDamaged) {
		t.Errorf("close of the damaged file: %v", err)
	}
	if err := h.Sync(ctx); !errors.Is(err, ErrDamaged) {
		t.Errorf("fsync of the damaged file: %v", err)
	}
	r.mkdir("d")
	r.write("d/x", pattern(size, 4))
	r.writeAt("good", pattern(10, 5), 0)
	other := mustDir(r, "good")
	g, err := r.fs.Open(ctx, other)
	must(t, err)
	must(t, g.Sync(ctx))
	g.Close()
	r.fs.Forget(other, 1)
	if err := r.fs.Rename(ctx, r.fs.Root(), "bad", r.fs.Root(), "good", 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("a file that lacks bytes replaces another: %v", err)
	}
	must(t, r.fs.Fold(ctx))
	if err := r.fs.Sync(ctx); !errors.Is(err, ErrDamaged) {
		t.Errorf("sync of everything: %v", err)
	}
	h.Close()
	r.fs.Forget(ino, 1)
	if err := r.fs.Close(ctx); !errors.Is(err, ErrDamaged) {
		t.Errorf("unmount: %v", err)
	}
	r.open()
	if !r.fs.root.Terms[len(r.fs.root.Terms)-2].Closed || r.fs.root.LastFold < 2 {
		t.Error("the unmount did not fold")
	}
	if got := r.names("/"); !slices.Equal(got, []string{"bad", "d", "good"}) || !bytes.Equal(r.read("d/x"), pattern(size, 4)) {
		t.Errorf("names %q", got)
	}
}

// A block that is damaged in the journal keeps nothing from being folded.
func TestDamagedContentInTheJournal(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	r.write("bad", pattern(2*blockcrypt.BlockSize, 1))
	r.write("good", pattern(2*blockcrypt.BlockSize, 2))
	ino, _, err := r.fs.Resolve(ctx, "bad")
	must(t, err)
	at := r.fs.active.files[ino.ID()].inline[1]
	r.fs.Forget(ino, 1)
	path := filepath.Join(r.path, at.segment)
	data, err := os.ReadFile(path)
	must(t, err)
	data[at.ref.Offset+100] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
	look := func(when string) {
		if !bytes.Equal(r.read("good"), pattern(2*blockcrypt.BlockSize, 2)) {
			t.Errorf("%s: another file is harmed", when)
		}
		if got, err := r.readAt("bad", 0, blockcrypt.BlockSize); err != nil || !bytes.Equal(got, pattern(blockcrypt.BlockSize, 1)) {
			t.Errorf("%s: the other block: %v", when, err)
		}
		if _, err := r.readAt("bad", blockcrypt.BlockSize, 10); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: the damaged block: %v", when, err)
		}
	}
	must(t, r.fs.Fold(ctx))
	r.everywhere(look)
}
