package fs

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
	"envfs/remote/dir/memfs"
)

func newMemRig(t *testing.T) *rig {
	t.Helper()
	return makeRig(&rig{t: t, path: "mem", mem: memfs.New()})
}

// A block that is written in part keeps its other bytes, at whatever moment a flush takes it.
func TestPartialWriteBesideFlush(t *testing.T) {
	ctx := context.Background()
	r := newMemRig(t)
	const size = 3000 // so that each byte makes its block dirty again
	ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), "file", 0o644, Cred{})
	must(t, err)
	defer r.fs.Forget(ino, 1)
	defer h.Close()
	want := pattern(size, 1)
	_, err = h.WriteAt(ctx, want, 0, false)
	must(t, err)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := h.Flush(ctx); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 20_000 {
		at := i * 7 % size
		want[at]++
		if _, err := h.WriteAt(ctx, want[at:at+1], int64(at), false); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if got := r.read("file"); !bytes.Equal(got, want) {
		t.Error("bytes beside those that were written are lost")
	}
}

// Between a block's being made dirty and its being written to no flush can take it.
func TestBlockIsDirtyAndWrittenInOneStep(t *testing.T) {
	ctx := context.Background()
	for _, state := range []string{"hole", "dirty", "flushed", "folded"} {
		r := newMemRig(t)
		ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), "file", 0o644, Cred{})
		must(t, err)
		var want byte
		size := uint64(100)
		_, err = r.fs.SetAttr(ctx, ino, SetAttr{Size: &size})
		must(t, err)
		if state != "hole" {
			want = 1
			_, err = h.WriteAt(ctx, []byte{want}, 0, false)
			must(t, err)
		}
		if state == "flushed" {
			must(t, h.Flush(ctx))
		}
		if state == "folded" {
			must(t, r.fs.Fold(ctx))
		}
		b, err := h.c.lockBlock(ctx, 0, false)
		must(t, err)
		if h.c.mu.TryLock() {
			t.Errorf("%s: a flush can take the block", state)
		}
		if b[0] != want || h.c.dirty[0] != b {
			t.Errorf("%s: the block holds %d, want %d", state, b[0], want)
		}
		h.c.mu.Unlock()
		h.Close()
		r.fs.Forget(ino, 1)
	}
}

// audit checks that all fold records together name no object as born twice or as dead twice, that root counts what
// lives, and that nothing is damaged.
func (r *rig) audit() {
	r.t.Helper()
	ctx := r.t.Context()
	born, dead := make(map[string]int), make(map[string]int)
	live := make(map[string]uint64)
	refs := append([]blockcrypt.ObjRef{r.fs.root.Fold}, r.fs.runs...)
	for _, ref := range slices.Backward(refs) {
		rec, err := r.fs.loadFold(ctx, ref)
		must(r.t, err)
		for _, b := range rec.Born {
			if born[b.Name]++; born[b.Name] > 1 {
				r.t.Errorf("%s was born twice", b.Name)
			}
			live[b.Name] = b.Length
		}
		for _, d := range rec.Dead {
			if dead[d.Name]++; dead[d.Name] > 1 {
				r.t.Errorf("%s died twice", d.Name)
			}
			if born[d.Name] == 0 && !isFold(d.Name) && d.Died > r.fs.root.Purged {
				r.t.Errorf("%s died and was never born", d.Name)
			}
			delete(live, d.Name)
		}
	}
	var bytes uint64
	for _, n := range live {
		bytes += n
	}
	if root := r.fs.root; root.Objects != uint64(len(live)) || root.Bytes != bytes {
		r.t.Errorf("root counts %d objects of %d bytes; %d of %d live", root.Objects, root.Bytes, len(live), bytes)
	}
	_, err := r.fs.Check(ctx, CheckOptions{}, func(fd Finding) { r.t.Errorf("check: %+v", fd) })
	must(r.t, err)
}

// A flush during which a fold begins goes to extents that are not the fold's: also if it began in one, filled it, and
// went on to another.
func TestFoldBeginsWhileFlushFillsExtents(t *testing.T) {
	ctx := context.Background()
	r := newMemRig(t)
	r.opts.Limits.Extent = 8
	w := r.watch()
	ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), "file", 0o644, Cred{})
	must(t, err)
	want := pattern(12*blockcrypt.BlockSize, 1)
	_, err = h.WriteAt(ctx, want[:6*blockcrypt.BlockSize], 0, false)
	must(t, err)
	must(t, h.Flush(ctx))
	_, err = h.WriteAt(ctx, want[6*blockcrypt.BlockSize:], 6*blockcrypt.BlockSize, false)
	must(t, err)
	folded := false
	w.after = func(name string) {
		if !folded && strings.Contains(name, ".x") {
			folded = true
			must(t, r.fs.fold(ctx, false))
		}
	}
	must(t, h.Flush(ctx))
	w.after = nil
	if !folded {
		t.Fatal("no fold began while extents were written")
	}
	must(t, r.fs.Fold(ctx))
	r.audit()
	h.Close()
	r.fs.Forget(ino, 1)
	r.close()
	r.open()
	if got := r.read("file"); !bytes.Equal(got, want) {
		t.Error("the file is not what was written")
	}
	r.audit()
}

// What is made and dropped between two folds is counted as it is, and leaves no line in the records for ever.
func TestDroppedBeforeAFold(t *testing.T) {
	ctx := context.Background()
	r, clock := newRewriteRig(t)
	for range 70 {
		r.write("file", pattern(100_000, 1))
		r.write("gone", pattern(100_000, 2))
		must(t, r.fs.Unlink(ctx, r.fs.Root(), "gone"))
		must(t, r.fs.Fold(ctx))
		clock.now = clock.now.Add(48 * time.Hour)
	}
	r.audit()
	lines := 0
	for _, ref := range append([]blockcrypt.ObjRef{r.fs.root.Fold}, r.fs.runs...) {
		rec, err := r.fs.loadFold(ctx, ref)
		must(t, err)
		lines += len(rec.Born) + len(rec.Dead)
	}
	if lines > 120 {
		t.Errorf("%d lines in the records of a vault with one file", lines)
	}
}

// A fold that fails at any point leaves nothing behind: neither its objects nor its records, of which a later one may
// have the number.
func TestFailedFoldIsTakenBack(t *testing.T) {
	ctx := context.Background()
	for folds := range 9 { // with the eighth records are merged
		fails := true
		for n := 1; fails; n++ {
			r := newMemRig(t)
			for i := range folds {
				r.write("before", pattern(50_000, byte(i)))
				must(t, r.fs.Fold(ctx))
			}
			r.mkdir("d")
			r.write("d/small", pattern(100, 1))
			r.write("d/large", pattern(40_000, 2))
			r.write("before", pattern(20_000, 3))
			before := r.objects()
			left := n
			r.mem.Fail(func(op memfs.Op) error {
				made := op.Kind == memfs.OpCreate && !strings.HasPrefix(op.Path, "journal/")
				if made {
					left--
				}
				if made && left == 0 {
					return syscall.ENOSPC
				}
				return nil
			})
			err := r.fs.Fold(ctx)
			r.mem.Fail(nil)
			if fails = left <= 0; !fails {
				must(t, err)
				break
			}
			if err == nil { // a copy of root is missing, or records are not merged
				r.audit()
				continue
			}
			for _, name := range r.objects() {
				if n, err := blockcrypt.ParseName(name); err == nil && n.Kind == blockcrypt.KindSegment {
					continue
				}
				if !slices.Contains(before, name) && !strings.HasPrefix(name, "roots/") {
					t.Errorf("fold after %d others that fails at object %d leaves %s", folds, n, name)
				}
			}
			must(t, r.fs.Fold(ctx))
			r.audit()
		}
	}
}

// objects returns the names of all objects on the store.
func (r *rig) objects() (names []string) {
	r.t.Helper()
	must(r.t, r.fs.store.List(r.t.Context(), "", func(i remote.Info) error {
		names = append(names, i.Name)
		return nil
	}))
	return names
}

// Who opens a vault whose root was replaced, but is not durable in its place yet, makes it so before deleting what only
// the root before needs: the journal that the fold has taken in.
func TestRootIsRealBeforeAnythingIsDeleted(t *testing.T) {
	r := newMemRig(t)
	r.write("a", pattern(100, 1))
	must(t, r.fs.Sync(t.Context()))
	renamed := false
	r.mem.Fail(func(op memfs.Op) error {
		if renamed { // killed
			return syscall.EIO
		}
		renamed = op.Kind == memfs.OpRename && op.NewPath == blockcrypt.RootName
		return nil
	})
	if err := r.fs.Fold(t.Context()); err == nil || !renamed {
		t.Fatalf("fold: %v", err)
	}
	r.mem.Fail(nil)
	r.abandon()
	first := r.mem.Log().Len()
	r.open()
	log := r.mem.Log()
	r.abandon()
	for i := range 16 * (log.Len() + 1 - first) {
		p := first + i/16
		r.mem = log.State(rand.New(rand.NewPCG(uint64(i), 1)), p, memfs.ModeRandom)
		if err := r.openErr(); err != nil {
			t.Fatalf("power loss %d operations into opening: %v", p-first, err)
		}
		if got := r.names("/"); !slices.Equal(got, []string{"a"}) || !bytes.Equal(r.read("a"), pattern(100, 1)) {
			t.Fatalf("power loss %d operations into opening: %q is left", p-first, got)
		}
		r.abandon()
	}
	r.mem = log.State(nil, log.Len(), memfs.ModePrefix)
	r.open()
}

// opens counts the extents that are open.
type opens struct {
	remote.Local
	mu        sync.Mutex
	now, most int
}

func (o *opens) Create(ctx context.Context, name string) (remote.File, error) {
	f, err := o.Local.Create(ctx, name)
	if err != nil || !strings.Contains(name, ".x") {
		return f, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now++
	o.most = max(o.most, o.now)
	return &openFile{File: f, o: o}, nil
}

type openFile struct {
	remote.File
	o    *opens
	once sync.Once
}

func (f *openFile) Close() error {
	f.once.Do(func() {
		f.o.mu.Lock()
		defer f.o.mu.Unlock()
		f.o.now--
	})
	return f.File.Close()
}

// However many files are written at once, whether they stay open or not, few descriptors are in use.
func TestFewExtentsAreOpen(t *testing.T) {
	ctx := context.Background()
	const files = 1500
	for _, c := range []struct {
		name  string
		size  int
		close bool
	}{
		{"closed", 40_000, true},
		{"open", 40_000, false},
		{"moved by a fold", 2*blockcrypt.BlockSize + 10_000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newMemRig(t)
			r.close()
			var o *opens
			r.wrap = func(st remote.Local) remote.Local { o = &opens{Local: st}; return o }
			r.open()
			var handles []*File
			for i := range files {
				ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), fmt.Sprint(i), 0o644, Cred{})
				must(t, err)
				r.fs.Forget(ino, 1)
				for range 2 {
					_, err = h.WriteAt(ctx, pattern(c.size, byte(i)), 0, false)
					must(t, err)
					must(t, h.Flush(ctx))
				}
				if c.close {
					h.Close()
				} else {
					handles = append(handles, h)
				}
			}
			must(t, r.fs.Fold(ctx))
			if o.most > maxGrowing+maxUnsynced+1 || o.most == 0 {
				t.Errorf("%d extents were open at a time", o.most)
			}
			for _, h := range handles {
				h.Close()
			}
			must(t, r.fs.Sync(ctx))
			if o.now != 0 {
				t.Errorf("%d extents are open though no file is", o.now)
			}
			for i := 0; i < files; i += 97 {
				if !bytes.Equal(r.read(fmt.Sprint(i)), pattern(c.size, byte(i))) {
					t.Errorf("file %d is not what was written", i)
				}
			}
		})
	}
}

// A file without a name that is opened again while its last handle is being closed keeps what was written to it.
func TestNamelessFileIsOpenedAgain(t *testing.T) {
	ctx := context.Background()
	r := newMemRig(t)
	w := r.watch()
	ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), "file", 0o644, Cred{})
	must(t, err)
	must(t, r.fs.Unlink(ctx, r.fs.Root(), "file"))
	want := pattern(1000, 1)
	_, err = h.WriteAt(ctx, want, 0, false)
	must(t, err)
	var again *File
	r.fs.space.noteTried(0) // so that space is asked for
	w.asking = func() {
		w.asking = nil
		again, err = r.fs.Open(ctx, ino)
		must(t, err)
	}
	h.Close()
	w.asking = nil
	if again == nil {
		t.Fatal("space was not asked for while the file was closed")
	}
	got := make([]byte, 2000)
	n, err := again.ReadAt(ctx, got, 0)
	must(t, err)
	if !bytes.Equal(got[:n], want) {
		t.Error("what was written is lost")
	}
	again.Close()
	r.fs.Forget(ino, 1)
	if r.fs.inodes[ino.id] != nil || len(r.fs.unflushed()) > 0 {
		t.Error("the file is dropped, but kept in memory")
	}
	must(t, r.fs.Fold(ctx))
	r.audit()
}
