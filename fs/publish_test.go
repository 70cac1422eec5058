package fs

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/remote"
	remotecache "envfs/remote/cache"
	remotedir "envfs/remote/dir"
)

// machine is one that shares a vault with others.
type machine struct {
	t     *testing.T
	name  string
	far   string // directory that stands for the bucket
	dir   string // its own
	wrap  func(remote.Store) remote.Store
	bound remotecache.Options // what of it is about the state
	fs    *FS
	store *remotecache.Store
}

// newShared makes a vault on a shared store, and returns a function that gives another machine.
func newShared(t *testing.T) func(name string) *machine {
	t.Helper()
	d := t.TempDir()
	r := &rig{t: t, path: filepath.Join(d, "far")}
	makeRig(r)
	r.close()
	r.fs = nil
	return func(name string) *machine {
		m := &machine{t: t, name: name, far: r.path, dir: filepath.Join(d, name)}
		t.Cleanup(m.kill)
		return m
	}
}

func (m *machine) open(o Options) error {
	t := m.t
	t.Helper()
	var far remote.Store
	far, err := remotedir.Open(m.far, remotedir.Options{})
	must(t, err)
	if m.wrap != nil {
		far = m.wrap(far)
	}
	here := m.bound
	here.State, here.Cache, here.Kept = filepath.Join(m.dir, "state"), filepath.Join(m.dir, "cache"), filepath.Join(m.dir, "kept")
	m.store, err = remotecache.Open(far, here)
	must(t, err)
	file, _, err := Peek(t.Context(), m.store, "")
	must(t, err)
	p, err := keystore.KeyFile(bytes.Repeat([]byte{7}, 32))
	must(t, err)
	o.Keys, err = file.Unlock(t.Context(), []keystore.Provider{p})
	must(t, err)
	o.Store, o.Manual, o.Host, o.User = m.store, true, m.name, "me"
	o.StateDir = filepath.Join(m.dir, "pins")
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil)).With("machine", m.name)
	if o.Limits.Extent == 0 {
		o.Limits.Extent = 8
	}
	f, err := Open(t.Context(), o)
	if err != nil {
		must(t, m.store.Close())
		return err
	}
	m.fs = f
	return nil
}

func (m *machine) mustOpen(o Options) {
	m.t.Helper()
	must(m.t, m.open(o))
}

func (m *machine) close() {
	m.t.Helper()
	must(m.t, m.fs.Close(context.Background()))
	m.fs = nil
}

// kill ends the process.
func (m *machine) kill() {
	if m.fs != nil {
		_ = m.store.Close() // all that is open of it
		m.fs = nil
	}
}

func (m *machine) rig() *rig { return &rig{t: m.t, fs: m.fs} }

func (m *machine) write(name string, data []byte) {
	m.t.Helper()
	m.rig().write(name, data)
}

// tree returns all files of the top directory.
func (m *machine) tree() map[string]string {
	m.t.Helper()
	tree := make(map[string]string)
	for _, name := range m.rig().names("/") {
		tree[name] = string(m.rig().read(name))
	}
	return tree
}

// published returns what another machine sees.
func (m *machine) published() map[string]string {
	m.t.Helper()
	other := &machine{t: m.t, name: "reader", far: m.far, dir: m.t.TempDir()}
	other.mustOpen(Options{ReadOnly: true})
	defer other.close()
	tree := other.tree()
	_, err := other.fs.Check(m.t.Context(), CheckOptions{}, func(fd Finding) { m.t.Errorf("check of what is published: %+v", fd) })
	must(m.t, err)
	return tree
}

func sameTree(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: %s has %d bytes (%.100q), want %d (%.100q)", what, name, len(got[name]), got[name], len(want[name]), want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s is there", what, name)
		}
	}
}

// Others see what was published, and nothing else, whole; it takes no space here then.
func TestPublish(t *testing.T) {
	ctx := t.Context()
	a := newShared(t)("a")
	a.mustOpen(Options{})
	sameTree(t, "new", a.published(), map[string]string{})
	a.write("small", pattern(100, 1))
	a.write("large", pattern(100_000, 2))
	sameTree(t, "before", a.published(), map[string]string{})
	must(t, a.fs.Publish(ctx))
	want := a.tree()
	sameTree(t, "after", a.published(), want)
	if objects, err := a.store.Unpublished(ctx); err != nil || slices.ContainsFunc(objects, func(i remote.Info) bool { return i.Size > 0 }) {
		t.Errorf("here still: %v, %v", objects, err)
	}
	root := a.fs.root
	must(t, a.fs.Publish(ctx))
	if a.fs.root != root {
		t.Error("nothing was published, and root is another")
	}
	a.write("large", pattern(90_000, 3))
	a.write("new", pattern(50_000, 4))
	sameTree(t, "before the second", a.published(), want)
	must(t, a.fs.Publish(ctx))
	sameTree(t, "after the second", a.published(), a.tree())
	a.write("more", pattern(30_000, 5))
	must(t, a.fs.Fold(ctx))
	sameTree(t, "after the fold", a.published(), a.tree())
	a.write("last", pattern(20_000, 6))
	want = a.tree()
	a.close()
	sameTree(t, "closed", a.published(), want)
}

// What was not published is here after a crash, and is published then.
func TestPublishAfterCrash(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a := machines("a")
	a.mustOpen(Options{})
	a.write("one", pattern(50_000, 1))
	must(t, a.fs.Publish(ctx))
	a.write("two", pattern(50_000, 2))
	a.write("one", pattern(60_000, 3))
	must(t, a.fs.Sync(ctx))
	want := a.tree()
	a.kill()
	a.mustOpen(Options{})
	sameTree(t, "reopened", a.tree(), want)
	sameTree(t, "published by opening", a.published(), want)
	a.close()
}

// A publication that is cut off at any request leaves what was published before or after it, and everything here.
func TestPublishCutOff(t *testing.T) {
	ctx := t.Context()
	for _, lost := range []bool{false, true} { // the last request's reply is lost, or it is not done
		for n := int64(1); ; n++ {
			a := newShared(t)("a")
			var writes atomic.Int64
			writes.Store(-1 << 40)
			a.wrap = func(s remote.Store) remote.Store { return &cutOff{Store: s, left: &writes, lost: lost} }
			a.mustOpen(Options{})
			a.write("one", pattern(50_000, 1))
			must(t, a.fs.Publish(ctx))
			before := a.tree()
			a.write("one", pattern(70_000, 2))
			a.write("two", pattern(50_000, 2))
			writes.Store(n)
			err := a.fs.Publish(ctx)
			done := writes.Load() > 0
			writes.Store(-1 << 40)
			after := a.tree()
			if got := a.published(); !maps.Equal(got, before) {
				sameTree(t, fmt.Sprintf("cut off at %d", n), got, after)
			}
			if n%2 == 0 {
				a.kill()
				a.mustOpen(Options{})
			} else {
				must(t, a.fs.Publish(ctx)) // it goes on
			}
			sameTree(t, "here", a.tree(), after)
			sameTree(t, "published at last", a.published(), after)
			a.write("three", pattern(10, 3))
			a.close()
			if done {
				must(t, err)
				break
			}
			if err == nil && !lost {
				t.Errorf("cut off at %d: no error", n)
			}
		}
	}
}

// cutOff is a store whose writing requests fail when none are left.
type cutOff struct {
	remote.Store
	left *atomic.Int64
	lost bool
}

var errCutOff = errors.New("cut off")

func (c *cutOff) do(fn func() error) error {
	left := c.left.Add(-1)
	if left > 0 || left < -1<<30 {
		return fn()
	}
	if left == 0 && c.lost {
		if err := fn(); err != nil {
			return err
		}
	}
	return errCutOff
}

func (c *cutOff) Put(ctx context.Context, name string, data []byte) error {
	return c.do(func() error { return c.Store.Put(ctx, name, data) })
}

func (c *cutOff) Replace(ctx context.Context, name string, old []byte, content func([]byte) ([]byte, error)) error {
	var data []byte
	err := c.do(func() error {
		return c.Store.Replace(ctx, name, old, func(id []byte) (_ []byte, err error) {
			data, err = content(id)
			return data, err
		})
	})
	if errors.Is(err, errCutOff) && data == nil {
		_, _ = content([]byte("identity")) // as it was sent
	}
	return err
}

// Who was overtaken publishes nothing any more.
func TestOvertaken(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("a"), machines("b")
	a.mustOpen(Options{})
	a.write("both", pattern(50_000, 1))
	must(t, a.fs.Publish(ctx))
	if err := b.open(Options{}); !errors.Is(err, ErrOtherWriter) {
		t.Fatalf("open beside another: %v", err)
	}
	b.mustOpen(Options{Takeover: true})
	b.write("b", pattern(50_000, 2))
	must(t, b.fs.Publish(ctx))
	a.write("a", pattern(50_000, 3))
	if err := a.fs.Publish(ctx); !errors.Is(err, ErrOvertaken) || !errors.Is(a.fs.stoppedBy(), ErrOvertaken) {
		t.Errorf("publish after being overtaken: %v", err)
	}
	sameTree(t, "published", b.published(), b.tree())
	must(t, b.fs.Fold(ctx))
	b.close()
}

// Random work with publications, folds, key changes and crashes: here is always all, there what was published last.
func TestPublishRandom(t *testing.T) {
	ctx := t.Context()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	machines := newShared(t)
	a := machines("a")
	var beside atomic.Pointer[func()]
	a.wrap = func(s remote.Store) remote.Store { return &besideFold{s, &beside} }
	a.mustOpen(Options{})
	published := map[string]string{}
	for step := range 300 {
		switch n := rng.IntN(20); {
		case n < 10:
			a.write(fmt.Sprint(rng.IntN(8)), pattern(rng.IntN(120_000), byte(step)))
		case n < 11:
			_ = a.fs.Unlink(ctx, a.fs.Root(), fmt.Sprint(rng.IntN(8))) // it may not be there
		case n < 15:
			must(t, a.fs.Publish(ctx))
			published = a.tree()
		case n < 16:
			work := func() {
				a.write(fmt.Sprint(rng.IntN(8)), pattern(rng.IntN(120_000), byte(step)))
				must(t, a.fs.Publish(ctx))
			}
			beside.Store(&work)
			must(t, a.fs.Fold(ctx))
			beside.Store(nil)
			published = a.tree()
		case n < 17:
			must(t, a.fs.ChangeKeys(ctx, func(v *keystore.Vault) (*keystore.Vault, error) { return v.Rotate(crand.Reader, time.Now()) }))
			published = a.tree()
		case n < 19:
			published = a.tree()
			if n < 18 {
				must(t, a.fs.Sync(ctx))
				a.kill()
			} else {
				a.close()
			}
			a.mustOpen(Options{})
			sameTree(t, "opened again", a.tree(), published)
		default:
			sameTree(t, "published", a.published(), published)
		}
		if t.Failed() {
			t.Fatalf("at step %d", step)
		}
	}
	a.close()
}

// besideFold is a store that calls a function once when a fold puts its first object.
type besideFold struct {
	remote.Store
	fn *atomic.Pointer[func()]
}

func (b *besideFold) Put(ctx context.Context, name string, data []byte) error {
	if n, err := blockcrypt.ParseName(name); err == nil && n.Kind != blockcrypt.KindSegment && n.Kind != blockcrypt.KindExtent {
		if fn := b.fn.Swap(nil); fn != nil {
			(*fn)()
		}
	}
	return b.Store.Put(ctx, name, data)
}

// A fold is at work for as long as it takes; what is done meanwhile is published all the same, and neither that fold nor a
// crash in the middle of it loses any of it.
func TestPublishBesideFold(t *testing.T) {
	ctx := t.Context()
	for _, crash := range []bool{false, true} {
		a := newShared(t)("a")
		var beside atomic.Pointer[func()]
		a.wrap = func(s remote.Store) remote.Store { return &besideFold{s, &beside} }
		a.mustOpen(Options{})
		a.write("before", pattern(50_000, 1))
		a.write("changed", pattern(50_000, 2))
		folding, cut := context.WithCancel(ctx)
		called := false
		work := func() {
			called = true
			a.write("changed", pattern(70_000, 3))
			a.write("meanwhile", pattern(50_000, 4))
			must(t, a.fs.Publish(ctx))
			sameTree(t, "published meanwhile", a.published(), a.tree())
			a.write("later", pattern(50_000, 5))
			if crash {
				cut()
			}
		}
		beside.Store(&work)
		err := a.fs.Fold(folding)
		if crash == (err == nil) || !called {
			t.Fatalf("fold: %v, called %v", err, called)
		}
		cut()
		want := a.tree()
		got := a.published() // with what came later, or without it
		delete(want, "later")
		delete(got, "later")
		sameTree(t, "published", got, want)
		must(t, a.fs.Sync(ctx))
		want = a.tree()
		a.kill()
		a.mustOpen(Options{})
		sameTree(t, "opened again", a.tree(), want)
		sameTree(t, "published then", a.published(), want)
		a.close()
	}
}
