package fs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
)

// Who writes to a file while it is sealed anew, and both find that it needs a new data key, make one key, not two of
// one number.
func TestReencryptBesideWrites(t *testing.T) {
	ctx := t.Context()
	r := newMemRig(t)
	want := pattern(300_000, 1)
	r.write("file", want)
	must(t, r.fs.Fold(ctx))
	ino, _, err := r.fs.Resolve(ctx, "file")
	must(t, err)
	defer r.fs.Forget(ino, 1)
	h, err := r.fs.Open(ctx, ino)
	must(t, err)
	defer h.Close()
	for round := range 40 {
		r.newEpoch()
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 10 {
				off := (round*31 + i*7) % 70 * blockcrypt.BlockSize
				part := pattern(2*blockcrypt.BlockSize, byte(round+i))
				copy(want[off:], part)
				if _, err := h.WriteAt(ctx, part, int64(off), false); err != nil {
					t.Error(err)
				}
				if err := h.Flush(ctx); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			if _, err := r.fs.Reencrypt(ctx, "/", nil); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		must(t, r.fs.Fold(ctx))
		r.forget()
		if got := r.read("file"); !bytes.Equal(got, want) {
			t.Fatalf("round %d: the file is not what was written", round)
		}
	}
	r.audit()
}

// pages returns the map pages of a file.
func (r *rig) pages(path string) (refs []blockcrypt.PageRef) {
	r.t.Helper()
	ctx := r.t.Context()
	ino, _, err := r.fs.Resolve(ctx, path)
	must(r.t, err)
	defer r.fs.Forget(ino, 1)
	var e *blockcrypt.Entry
	must(r.t, r.fs.view(ctx, func() error {
		e, err = r.fs.entry(ino)
		return err
	}))
	return r.pagesOf(e)
}

func (r *rig) pagesOf(e *blockcrypt.Entry) (refs []blockcrypt.PageRef) {
	r.t.Helper()
	ctx := r.t.Context()
	hd, err := r.fs.loadedHeader(ctx, e)
	must(r.t, err)
	must(r.t, filemap.Pages(ctx, hd.head, func(ctx context.Context, key filemap.PageKey) (*filemap.Page, error) {
		v, err := r.fs.object(ctx, mapMiss(e.ID, key))
		must(r.t, err)
		return cast[*filemap.Page](v)
	}, func(ref blockcrypt.PageRef) { refs = append(refs, ref) }))
	return refs
}

// A file that was large keeps pages when it is cut, and they are renewed as all others are.
func TestRewrapCutFile(t *testing.T) {
	ctx := t.Context()
	r := newMemRig(t)
	ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), "file", 0o644, Cred{})
	must(t, err)
	defer r.fs.Forget(ino, 1)
	defer h.Close()
	want := pattern(12<<20, 3)
	blocks := len(want) / blockcrypt.BlockSize
	for i := range blocks { // no two neighbours lie one after the other
		n := i * 1031 % blocks
		_, err := h.WriteAt(ctx, want[n*blockcrypt.BlockSize:(n+1)*blockcrypt.BlockSize], int64(n*blockcrypt.BlockSize), false)
		must(t, err)
		if i%6 == 0 {
			must(t, h.Flush(ctx))
		}
	}
	must(t, h.Flush(ctx))
	must(t, r.fs.Fold(ctx))
	for _, size := range []uint64{4 << 20, 3 << 20, 2<<20 + 1} {
		_, err = r.fs.SetAttr(ctx, ino, SetAttr{Size: &size})
		must(t, err)
		want = want[:size]
		must(t, r.fs.Fold(ctx))
		r.newEpoch()
		n := int64(len(r.pages("file")))
		use, err := r.fs.KeyUse(ctx)
		must(t, err)
		var pages int64
		for _, u := range use.Tree {
			pages += u.Pages
		}
		if pages != n {
			t.Errorf("at %d bytes: %d pages are counted, there are %d", size, pages, n)
		}
		_, err = r.fs.Rewrap(ctx, nil)
		must(t, err)
		for _, ref := range r.pages("file") {
			if ref.Ver.Birth < r.fs.root.Epochs[len(r.fs.root.Epochs)-1].Fold {
				t.Errorf("at %d bytes: a page is as old as fold %d after rewrapping", size, ref.Ver.Birth)
			}
		}
		t.Logf("%d bytes: %d pages", size, n)
	}
	r.holds(map[string][]byte{"/file": want}, "cut")
	r.audit()
}

// A file that somebody changes all the time keeps Rewrap from nothing.
func TestRewrapBesideOneHotFile(t *testing.T) {
	ctx := t.Context()
	for _, change := range []string{"attributes", "content"} {
		t.Run(change, func(t *testing.T) {
			r := newMemRig(t)
			r.close()
			r.opts.Limits.Renew = 2 // so that the first fold does not come to it
			r.open()
			r.mkdir("d")
			for i := range 5 {
				r.write(fmt.Sprint("d/", i), pattern(100, 1))
			}
			r.write("hot", nil)
			for n := 0; n < 12<<20; n += 2 * blockcrypt.BlockSize {
				for _, at := range []int{n, n + 48<<20} { // two leaves and a node
					r.writeAt("hot", pattern(blockcrypt.BlockSize, byte(n>>13)), int64(at))
				}
			}
			must(t, r.fs.Fold(ctx))
			if len(r.pages("hot")) < 2 {
				t.Fatal("the file has no pages")
			}
			r.newEpoch()
			ino, _, err := r.fs.Resolve(ctx, "hot")
			must(t, err)
			defer r.fs.Forget(ino, 1)
			touch := func(i int) {
				if change == "content" {
					r.writeAt("hot", []byte{byte(i)}, 0)
					return
				}
				mode := uint32(0o600 + i%2)
				_, err := r.fs.SetAttr(ctx, ino, SetAttr{Mode: &mode})
				must(t, err)
			}
			rounds := 0
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			touch(0)
			_, err = r.fs.Rewrap(ctx, func(_, _ int64) {
				rounds++
				touch(rounds)
				if rounds == 50 {
					cancel()
				}
			})
			if err != nil || rounds >= 50 {
				t.Fatalf("after %d rounds: %v", rounds, err)
			}
			use, err := r.fs.KeyUse(t.Context())
			must(t, err)
			if use.Old() != 0 {
				t.Errorf("afterwards: %+v", use)
			}
			must(t, r.fs.Fold(t.Context()))
			r.audit()
		})
	}
}

// Keys that are rotated while Rewrap is at work: it ends, and all is under the epoch that it says.
func TestRewrapBesideRotation(t *testing.T) {
	r := newMemRig(t)
	r.close()
	r.opts.Limits.Renew = 100
	r.open()
	r.mkdir("d")
	for i := range 500 {
		r.write(fmt.Sprintf("d/f%d", i), pattern(50, byte(i)))
	}
	must(t, r.fs.Fold(t.Context()))
	r.newEpoch()
	calls := 0
	res, err := r.fs.Rewrap(t.Context(), func(_, _ int64) {
		if calls++; calls == 2 || calls == 4 {
			r.newEpoch()
		}
	})
	must(t, err)
	use, err := r.fs.KeyUse(t.Context())
	must(t, err)
	if res.Epoch != 4 || use.Newest != 4 || use.Old() != 0 {
		t.Errorf("rewrapped to epoch %d; in use: %+v", res.Epoch, use)
	}
	r.sealedAsSaid()
	r.audit()
}

// What becomes damaged while Rewrap is at work, the top directory too, is an error of its own alone.
func TestRewrapTopDamagedMeanwhile(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	r.close()
	r.opts.Limits.Renew = 10
	r.open()
	for i := range 5 {
		dir := fmt.Sprintf("d%d", i)
		r.mkdir(dir)
		for k := range 20 {
			r.write(fmt.Sprintf("%s/f%d", dir, k), pattern(50, byte(i)))
		}
	}
	must(t, r.fs.Fold(ctx))
	r.newEpoch()
	calls := 0
	res, err := r.fs.Rewrap(ctx, func(_, _ int64) {
		if calls++; calls == 2 {
			ref := r.fs.root.Dirs[0]
			n := blockcrypt.Name{Kind: blockcrypt.KindIndex, ID: ref.ID, Seq: ref.Head.Version.Birth, R: ref.Head.Version.R}
			r.spoil(n.String())
			r.forget()
		}
	})
	must(t, err)
	if res.Damaged == 0 {
		t.Errorf("nothing is damaged: %+v", res)
	}
}

// A damaged directory keeps nothing else from being sealed anew.
func TestReencryptBesideDamage(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	want := map[string][]byte{}
	for _, dir := range []string{"a", "b", "c"} {
		r.mkdir(dir)
		r.write(dir+"/file", pattern(40_000, 1))
		want[dir+"/file"] = pattern(40_000, 1)
	}
	r.write("z", pattern(40_000, 1))
	must(t, r.fs.Fold(ctx))
	r.newEpoch()
	r.spoil(r.objectsOf("b", "d"))
	r.spoil(r.objectsOf("z", "h"))
	r.forget()
	res, err := r.fs.Reencrypt(ctx, "/", nil)
	must(t, err)
	if res.Files != 2 || res.Damaged != 2 {
		t.Errorf("beside a damaged directory and a damaged file: %+v", res)
	}
	delete(want, "b/file")
	r.holds(want, "afterwards")
}

// The fold with which an epoch begins is not numbered lower after a crash than root says.
func TestEpochBeginsWhereRootSays(t *testing.T) {
	ctx := t.Context()
	r := newMemRig(t)
	r.write("file", pattern(100, 1))
	must(t, r.fs.Fold(ctx))
	r.fs.mu.Lock()
	r.fs.nextFold += 3 // as folds do that fail while extents are begun
	r.fs.mu.Unlock()
	for _, crash := range []bool{true, false} {
		r.newEpoch()
		if crash {
			r.crash()
		}
		r.write("file", pattern(100, 2))
		must(t, r.fs.Fold(ctx))
		r.sealedAsSaid()
	}
	r.audit()
}

// Files of which only pages are old, as many as one fold renews: each is renewed once.
func TestRewrapOldPagesOnly(t *testing.T) {
	r := newMemRig(t)
	r.close()
	r.opts.Limits.Renew = 1
	r.open()
	r.write("file", nil)
	for n := 0; n < 12<<20; n += 2 * blockcrypt.BlockSize {
		for _, at := range []int{n, n + 48<<20} {
			r.writeAt("file", pattern(blockcrypt.BlockSize, byte(n>>13)), int64(at))
		}
	}
	must(t, r.fs.Fold(t.Context()))
	r.newEpoch()
	r.writeAt("file", []byte("x"), 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rounds := 0
	_, err := r.fs.Rewrap(ctx, func(_, _ int64) {
		if rounds++; rounds == 50 {
			cancel()
		}
	})
	must(t, err)
	use, err := r.fs.KeyUse(t.Context())
	must(t, err)
	if use.Old() != 0 {
		t.Errorf("afterwards: %+v", use)
	}
	r.audit()
}

// Whoever unmounts while Rewrap is at work ends it: nothing touches the keys or the store once Close has returned.
func TestCloseWhileRewrapping(t *testing.T) {
	r := newMemRig(t)
	r.close()
	r.opts.Limits.Renew = 5
	r.open()
	want := map[string][]byte{}
	for i := range 200 {
		want[fmt.Sprint("f", i)] = pattern(50, byte(i))
		r.write(fmt.Sprint("f", i), pattern(50, byte(i)))
	}
	for round := range 8 {
		r.newEpoch()
		var ended sync.WaitGroup
		begun := make(chan struct{})
		begin := sync.OnceFunc(func() { close(begun) })
		f := r.fs
		ended.Go(func() {
			calls := 0
			_, err := f.Rewrap(t.Context(), func(_, _ int64) {
				if calls++; calls == round+1 {
					begin()
				}
			})
			if err != nil && !errors.Is(err, errClosing) {
				t.Error(err)
			}
			begin()
		})
		<-begun
		r.close()
		if !f.works.idle() {
			t.Error("Rewrap is at work after Close")
		}
		ended.Wait()
		r.open()
		for range 3 {
			r.write("f0", pattern(50, 0))
			must(t, r.fs.Fold(t.Context()))
		}
		r.holds(want, "opened again")
	}
	_, err := r.fs.Rewrap(t.Context(), nil)
	must(t, err)
	r.audit()
}

func (w *works) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.stop) == 0
}

// A file that is written in each of more key epochs than a header has room for data keys is refused then, until it is
// sealed anew; it keeps nothing from being folded, however its extents are listed.
func TestManyKeyEpochs(t *testing.T) {
	ctx := t.Context()
	for _, blocks := range []int{200, 3000} { // a table of extents in the header, and in pages
		r := newMemRig(t)
		want := pattern(blocks*blockcrypt.BlockSize, 1)
		r.write("file", want)
		ino, _, err := r.fs.Resolve(ctx, "file")
		must(t, err)
		h, err := r.fs.Open(ctx, ino)
		must(t, err)
		for n := 1000; n < min(blocks, 1150); n++ {
			part := pattern(blockcrypt.BlockSize, byte(n))
			copy(want[n*blockcrypt.BlockSize:], part)
			r.writeAt("file", part, int64(n)*blockcrypt.BlockSize)
			must(t, r.fs.Fold(ctx))
		}
		refused := 0
		for epoch := range blockcrypt.MaxDEKs + 6 {
			must(t, r.fs.Fold(ctx))
			r.newEpoch()
			part := pattern(2*blockcrypt.BlockSize, byte(epoch))
			off := 2 * epoch * blockcrypt.BlockSize
			copy(want[off:], part)
			_, err := h.WriteAt(ctx, part, int64(off), false)
			must(t, err)
			if err := h.Flush(ctx); err != nil {
				if !errors.Is(err, ErrNoSpace) {
					t.Fatal(err)
				}
				refused++
				_, err := r.fs.Reencrypt(ctx, "/file", nil)
				must(t, err)
				must(t, h.Flush(ctx))
			}
		}
		if refused != 1 {
			t.Errorf("%d blocks: refused %d times", blocks, refused)
		}
		must(t, r.fs.Fold(ctx))
		_, err = r.fs.Rewrap(ctx, nil)
		must(t, err)
		r.forget()
		r.holds(map[string][]byte{"/file": want}, "after many epochs")
		r.audit()
		h.Close()
		r.fs.Forget(ino, 1)
	}
}

// Shards of a directory in which nothing has changed, and nothing is to be renewed but themselves, are sealed anew.
func TestRewrapOfShards(t *testing.T) {
	ctx := t.Context()
	r := newMemRig(t)
	for i := range 1500 { // which have no header
		ino, _, err := r.fs.Symlink(ctx, r.fs.Root(), fmt.Sprint("l", i), "target", Cred{})
		must(t, err)
		r.fs.Forget(ino, 1)
	}
	must(t, r.fs.Fold(ctx))
	r.newEpoch()
	off, cancel := context.WithCancel(ctx)
	defer cancel()
	rounds := 0
	_, err := r.fs.Rewrap(off, func(_, _ int64) {
		if rounds++; rounds == 20 {
			cancel()
		}
	})
	must(t, err)
	d := r.fs.top.self
	must(t, r.fs.view(ctx, func() error {
		ix, err := r.fs.baseIndex(d)
		if err != nil {
			return err
		}
		for _, s := range ix.Shards {
			if s.Ref.Ver.Birth < r.fs.root.Epochs[1].Fold {
				t.Errorf("a shard is as old as fold %d", s.Ref.Ver.Birth)
			}
		}
		if len(ix.Shards) == 0 {
			t.Error("there are no shards")
		}
		return nil
	}))
	r.sealedAsSaid()
	r.audit()
}

// Once other keys are in use nothing can be changed by those of before.
func TestSupersededKeysAreWiped(t *testing.T) {
	r := newMemRig(t)
	old := r.fs.keyring()
	r.newEpoch()
	if next, err := old.Rotate(rand.Reader, time.Now()); err == nil {
		next.Close()
		t.Error("the superseded keys can still be changed")
	}
	if _, err := old.KEK(old.Newest()); err != nil {
		t.Errorf("a KEK that somebody may be using is gone: %v", err)
	}
}

// What Rewrap finds damaged stays as it is, with all that the journal says of it and below it; all else is renewed.
func TestRewrapBesideDamage(t *testing.T) {
	for _, kind := range []string{"header", "index", "shard", "page"} {
		t.Run(kind, func(t *testing.T) {
			ctx := t.Context()
			r := newRig(t)
			r.mkdir("bad")
			r.mkdir("bad/below")
			r.mkdir("good")
			for _, name := range []string{"bad/below/old", "good/old", "bad/small"} {
				r.write(name, pattern(30_000, 1))
			}
			if kind == "shard" {
				for i := range 1500 {
					r.write(fmt.Sprint("bad/", i), nil)
				}
			}
			r.write("bad/large", nil)
			for n := 0; n < 12<<20; n += 2 * blockcrypt.BlockSize {
				r.writeAt("bad/large", pattern(blockcrypt.BlockSize, byte(n>>13)), int64(n))
			}
			must(t, r.fs.Fold(ctx))
			r.newEpoch()
			r.write("bad/below/new", pattern(30_000, 2)) // only the journal knows
			r.writeAt("bad/large", []byte("x"), 0)
			r.writeAt("good/old", []byte("x"), 0)
			switch kind {
			case "header":
				r.spoil(r.objectsOf("bad/small", "h"))
			case "index":
				r.spoil(r.objectsOf("bad", "d"))
			case "shard":
				r.spoil(r.objectsOf("bad", "s"))
			case "page":
				r.spoil(r.objectsOf("bad/large", "m"))
			}
			r.forget()
			good := append([]byte("x"), pattern(30_000, 1)[1:]...)
			res, err := r.fs.Rewrap(ctx, nil)
			must(t, err)
			if res.Damaged == 0 {
				t.Errorf("nothing is damaged: %+v", res)
			}
			look := func(when string) {
				t.Helper()
				r.holds(map[string][]byte{"/good/old": good, "/bad/below/new": pattern(30_000, 2)}, when)
				if kind == "header" || kind == "page" {
					r.holds(map[string][]byte{"/bad/below/old": pattern(30_000, 1)}, when)
				}
				if got, err := r.readAt("bad/large", 0, 1); err == nil && got[0] != 'x' || err != nil && !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: what was written to a file in a damaged directory: %q, %v", when, got, err)
				}
			}
			look("rewrapped")
			r.crash()
			look("after a crash")
			_, err = r.fs.Rewrap(ctx, nil)
			must(t, err)
			r.close()
			r.open()
			look("opened again")
		})
	}
}
