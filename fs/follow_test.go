package fs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"envfs/blockcrypt"
)

// dump tells all of a tree: each name with its kind and, of files, what they hold.
func dump(t *testing.T, f *FS) map[string]string {
	t.Helper()
	ctx := context.Background()
	all := make(map[string]string)
	var walk func(at string, dir *Inode)
	walk = func(at string, dir *Inode) {
		type child struct {
			name string
			ino  *Inode
			st   Stat
		}
		var children []child
		must(t, f.ReadDirPlus(ctx, dir, 0, func(e DirEntry, ino *Inode, st Stat) bool {
			if ino != nil {
				children = append(children, child{e.Name, ino, st})
			}
			return true
		}))
		for _, c := range children {
			name := path.Join(at, c.name)
			switch c.st.Type {
			case blockcrypt.TypeDirectory:
				all[name] = "directory"
				walk(name, c.ino)
			case blockcrypt.TypeRegular:
				all[name] = fmt.Sprintf("%d names, %s", c.st.Nlink, held(t, f, c.ino, c.st.Size))
			}
			f.Forget(c.ino, 1)
		}
	}
	walk("/", f.Root())
	return all
}

// held tells what a file holds.
func held(t *testing.T, f *FS, ino *Inode, size uint64) string {
	t.Helper()
	h, err := f.Open(context.Background(), ino)
	must(t, err)
	defer h.Close()
	return through(t, h, size)
}

func through(t *testing.T, h *File, size uint64) string {
	t.Helper()
	p := make([]byte, size+10)
	n, err := h.ReadAt(context.Background(), p, 0)
	must(t, err)
	return fmt.Sprintf("%d bytes %x", n, sha256.Sum256(p[:n]))
}

// busy does random things to a tree of few names.
type busy struct {
	t   *testing.T
	f   *FS
	rng *rand.Rand

	known []*Inode // to be forgotten
}

func (b *busy) dir() *Inode {
	dir := b.f.Root()
	for b.rng.IntN(3) > 0 {
		ino, _, err := b.f.Lookup(context.Background(), dir, fmt.Sprintf("dir%d", b.rng.IntN(3)))
		if err != nil {
			break
		}
		b.known = append(b.known, ino)
		dir = ino
	}
	return dir
}

func (b *busy) name() string { return fmt.Sprintf("file%d", b.rng.IntN(5)) }

func (b *busy) step() {
	ctx := context.Background()
	switch n := b.rng.IntN(20); {
	case n < 2:
		_, _, _ = b.f.Mkdir(ctx, b.dir(), fmt.Sprintf("dir%d", b.rng.IntN(3)), 0o755, Cred{})
	case n < 3:
		_ = b.f.Rmdir(ctx, b.dir(), fmt.Sprintf("dir%d", b.rng.IntN(3)))
	case n < 5:
		_ = b.f.Rename(ctx, b.dir(), fmt.Sprintf("dir%d", b.rng.IntN(3)), b.dir(), fmt.Sprintf("dir%d", b.rng.IntN(3)), 0)
	case n < 8:
		_ = b.f.Rename(ctx, b.dir(), b.name(), b.dir(), b.name(), 0)
	case n < 10:
		_ = b.f.Unlink(ctx, b.dir(), b.name())
	case n < 12:
		if ino, st, err := b.f.Lookup(ctx, b.dir(), b.name()); err == nil && st.Type == blockcrypt.TypeRegular {
			_, _, _ = b.f.Link(ctx, ino, b.dir(), b.name())
		}
	default:
		ino, h, _, err := b.f.Create(ctx, b.dir(), b.name(), 0o644, Cred{})
		if errors.Is(err, ErrExist) {
			ino, _, err = b.f.Lookup(ctx, b.f.Root(), b.name())
			if err == nil {
				h, err = b.f.Open(ctx, ino)
			}
		}
		if err != nil {
			return
		}
		defer h.Close()
		if b.rng.IntN(4) == 0 {
			size := uint64(b.rng.IntN(60_000))
			_, err := b.f.SetAttr(ctx, ino, SetAttr{Size: &size})
			must(b.t, err)
		}
		_, err = h.WriteAt(ctx, pattern(1+b.rng.IntN(50_000), byte(b.rng.Int())), int64(b.rng.IntN(20_000)), false)
		must(b.t, err)
	}
}

// A follower shows what was published, all of it and nothing else, whatever was done and however the writer folded
// meanwhile; what it knew before goes on being what it is.
func TestFollow(t *testing.T) { testFollow(t, false) }

// The same where nothing is kept of what is superseded, and the follower's caches are lost again and again.
func TestFollowWithoutGrace(t *testing.T) { testFollow(t, true) }

func testFollow(t *testing.T, harsh bool) {
	ctx := t.Context()
	clock := new(leapClock)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	machines := newShared(t)
	a, b := machines("writer"), machines("follower")
	a.mustOpen(Options{Clock: clock})
	b.mustOpen(Options{Follow: true})
	work := &busy{t: t, f: a.fs, rng: rng}
	type held struct {
		ino  *Inode
		file *File
	}
	var holds []held // what programs on the follower have open, or stand in
	for round := range 120 {
		for range rng.IntN(15) {
			work.step()
		}
		if rng.IntN(6) == 0 {
			must(t, a.fs.Fold(ctx))
			if harsh {
				clock.leap()
			}
		} else {
			must(t, a.fs.Publish(ctx))
		}
		want := dump(t, a.fs)
		for range rng.IntN(5) { // not published
			work.step()
		}
		switch rng.IntN(12) {
		case 0: // another mount goes on
			want = dump(t, a.fs)
			a.close()
			a.mustOpen(Options{Clock: clock})
			work.f = a.fs
		case 1:
			a.kill()
			a.mustOpen(Options{Clock: clock})
			work.f = a.fs
			want = dump(t, a.fs)
		}
		if rng.IntN(3) == 0 {
			continue // the follower sleeps
		}
		if harsh {
			b.forgetAll()
			for _, h := range holds[:rng.IntN(2)*len(holds)] { // which may find that what they need is gone, and then what is new
				_, _ = b.fs.GetAttr(ctx, h.ino)
			}
		}
		_, err := b.fs.CatchUp(ctx)
		must(t, err)
		sameTree(t, fmt.Sprintf("followed in round %d", round), dump(t, b.fs), want)
		if t.Failed() {
			t.FailNow()
		}
		reader := &busy{t: t, f: b.fs, rng: rng}
		for range 3 {
			ino, st, err := b.fs.Lookup(ctx, reader.dir(), reader.name())
			if err != nil {
				continue
			}
			h := held{ino: ino}
			if st.Type == blockcrypt.TypeRegular && rng.IntN(2) == 0 {
				h.file, err = b.fs.Open(ctx, ino)
				must(t, err)
			}
			holds = append(holds, h)
		}
		for i, h := range holds {
			st, err := b.fs.GetAttr(ctx, h.ino)
			if errors.Is(err, ErrStale) && h.file == nil {
				continue // the kernel looks it up again
			}
			if !harsh {
				must(t, err)
			}
			if h.file != nil && err == nil && !harsh {
				through(t, h.file, st.Size)
			}
			if rng.IntN(10) == 0 {
				if h.file != nil {
					h.file.Close()
				}
				b.fs.Forget(h.ino, 1)
				holds[i].ino = nil
			}
		}
		for _, ino := range reader.known {
			b.fs.Forget(ino, 1)
		}
		holds = slices.DeleteFunc(holds, func(h held) bool { return h.ino == nil })
	}
	for _, h := range holds {
		if h.file != nil {
			h.file.Close()
		}
		b.fs.Forget(h.ino, 1)
	}
	b.auditFollower()
	b.close()
	a.close()
}

// leapClock is a clock that can leap over the time for which superseded objects are kept.
type leapClock struct{ leaps atomic.Int64 }

func (c *leapClock) leap() { c.leaps.Add(1) }

func (c *leapClock) Now() time.Time {
	return time.Now().Add(time.Duration(c.leaps.Load()) * 2 * sharedGrace)
}

// forgetAll drops all that the machine's caches hold.
func (m *machine) forgetAll() {
	m.t.Helper()
	m.fs.mu.Lock()
	m.fs.cache = newCache(m.fs.opts.Limits.Cache)
	m.fs.mu.Unlock()
	// What is being put there meanwhile goes by its path: so it is not in the way of the directory's removal.
	gone := filepath.Join(m.dir, "cache that is gone")
	if err := os.Rename(filepath.Join(m.dir, "cache"), gone); !errors.Is(err, os.ErrNotExist) {
		must(m.t, err)
	}
	must(m.t, os.RemoveAll(gone))
}

// auditFollower checks that what refers to directories is counted right: without inodes only the journal's are known.
func (m *machine) auditFollower() {
	f := m.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	before := make(map[*dir]int)
	for _, d := range f.dirs {
		before[d] = d.refs
	}
	f.countRefs(f.active)
	for d, n := range before {
		// A directory that reading has made known and nothing refers to is gone by now; others are counted as they were.
		if d.refs != n {
			m.t.Errorf("directory %s has %d references, counted %d", d.id, n, d.refs)
		}
	}
	if n := len(f.inodes); n != 1 {
		m.t.Errorf("%d inodes are known, want the top", n)
	}
}

// Files that were opened are called changed if they have, and not if only a fold has moved them.
func TestFollowChanged(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("writer"), machines("follower")
	a.mustOpen(Options{})
	a.write("kept", pattern(50_000, 1))
	a.write("changed", pattern(50_000, 2))
	must(t, a.fs.Publish(ctx))
	b.mustOpen(Options{Follow: true})
	open := func(name string) (*Inode, bool) {
		ino, _, err := b.fs.Lookup(ctx, b.fs.Root(), name)
		must(t, err)
		h, err := b.fs.Open(ctx, ino)
		must(t, err)
		h.Close()
		return ino, h.Unchanged()
	}
	for _, name := range []string{"kept", "changed"} {
		if _, same := open(name); !same {
			t.Errorf("%s was never opened and is called changed", name)
		}
	}
	for round, fold := range []bool{false, true, true, false} {
		a.write("changed", pattern(50_000, byte(3+round)))
		if fold {
			must(t, a.fs.Fold(ctx))
		} else {
			must(t, a.fs.Publish(ctx))
		}
		moved, err := b.fs.CatchUp(ctx)
		must(t, err)
		if !moved {
			t.Error("nothing new is seen")
		}
		told := b.fs.takeChanged()
		ino, same := open("changed")
		if same || !slices.Equal(told, []*Inode{ino}) {
			t.Errorf("round %d: unchanged %v, told of %d files", round, same, len(told))
		}
		if _, same := open("changed"); same {
			t.Errorf("round %d: called unchanged while the kernel may have old pages", round)
		}
		b.fs.noteDropped(told)
		if _, same := open("changed"); !same {
			t.Errorf("round %d: called changed although the kernel has dropped its pages", round)
		}
		if _, same := open("kept"); !same {
			t.Errorf("round %d: what was not touched is called changed", round)
		}
	}
	b.close()
	a.close()
}

// What a follower has open goes on being read after it was removed, also after a fold.
func TestFollowRemoved(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("writer"), machines("follower")
	a.mustOpen(Options{})
	for _, name := range []string{"small", "large"} {
		a.write(name, pattern(map[string]int{"small": 5000, "large": 90_000}[name], 1))
	}
	must(t, a.fs.Publish(ctx))
	b.mustOpen(Options{Follow: true})
	files := make(map[*File]string)
	for _, name := range []string{"small", "large"} {
		ino, st, err := b.fs.Lookup(ctx, b.fs.Root(), name)
		must(t, err)
		h, err := b.fs.Open(ctx, ino)
		must(t, err)
		files[h] = through(t, h, st.Size)
	}
	must(t, a.fs.Unlink(ctx, a.fs.Root(), "small"))
	must(t, a.fs.Unlink(ctx, a.fs.Root(), "large"))
	for _, step := range []func() error{
		func() error { return a.fs.Publish(ctx) },
		func() error { return a.fs.Fold(ctx) },
		func() error { a.write("other", pattern(10, 1)); return a.fs.Publish(ctx) },
	} {
		must(t, step())
		_, err := b.fs.CatchUp(ctx)
		must(t, err)
		sameTree(t, "names", b.tree(), a.tree())
		for h, want := range files {
			if got := through(t, h, 100_000); got != want {
				t.Errorf("removed: %s, was %s", got, want)
			}
		}
	}
	for h := range files {
		h.Close()
	}
	b.close()
	a.close()
}

// A root that does not continue what is shown is not followed, and what is shown stays.
func TestFollowSetBack(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("writer"), machines("follower")
	a.mustOpen(Options{})
	a.write("one", pattern(50_000, 1))
	must(t, a.fs.Publish(ctx))
	old, err := a.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
	must(t, err)
	a.write("two", pattern(50_000, 2))
	must(t, a.fs.Publish(ctx))
	want := a.tree()
	b.mustOpen(Options{Follow: true})
	now, err := a.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
	must(t, err)
	put := func(old, next []byte) {
		must(t, a.store.Replace(ctx, blockcrypt.RootName, old, func([]byte) ([]byte, error) { return next, nil }))
	}
	put(now, old)
	if _, err := b.fs.CatchUp(ctx); !errors.Is(err, ErrSetBack) {
		t.Errorf("root was set back: %v", err)
	}
	sameTree(t, "shown", b.tree(), want)
	put(old, now)
	a.write("three", pattern(50_000, 3))
	must(t, a.fs.Publish(ctx))
	_, err = b.fs.CatchUp(ctx)
	must(t, err)
	sameTree(t, "followed again", b.tree(), a.tree())
	b.close()
	a.close()
}

// A step of a follower that misses what the moment before needed, of a file that is open and gone, does not wait for itself.
func TestFollowMissing(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("writer"), machines("follower")
	clock := new(leapClock)
	a.mustOpen(Options{Clock: clock})
	a.write("gone", pattern(50_000, 1))
	must(t, a.fs.Fold(ctx))
	b.mustOpen(Options{Follow: true})
	ino, _, err := b.fs.Lookup(ctx, b.fs.Root(), "gone")
	must(t, err)
	h, err := b.fs.Open(ctx, ino)
	must(t, err)
	must(t, a.fs.Unlink(ctx, a.fs.Root(), "gone"))
	for i := range byte(4) {
		a.write("other", pattern(50_000, i))
		must(t, a.fs.Fold(ctx))
		clock.leap()
	}
	b.forgetAll()
	_, err = b.fs.CatchUp(ctx)
	must(t, err)
	sameTree(t, "followed", b.tree(), a.tree())
	if n, err := h.ReadAt(ctx, make([]byte, 10), 0); err == nil {
		t.Errorf("of a file whose objects are gone %d bytes were read", n)
	}
	h.Close()
	b.close()
	a.close()
}
