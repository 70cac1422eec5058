package fs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/remote"
	remotedir "envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

// rig is a vault on a real directory, under a key-file slot.
type rig struct {
	t    testing.TB
	path string
	key  []byte
	fs   *FS
	opts Options
	mem  *memfs.FS                       // if not nil: where the store lies
	wrap func(remote.Local) remote.Local // if not nil: stands before the store
}

func (r *rig) storeOptions() (o remotedir.Options) {
	if r.mem != nil {
		o.FS = r.mem
	}
	return o
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return makeRig(&rig{t: t, path: t.TempDir() + "/vault"})
}

// makeRig makes and opens the vault.
func makeRig(r *rig) *rig {
	t := r.t
	t.Helper()
	r.key = bytes.Repeat([]byte{7}, 32)
	r.opts = Options{Manual: true, Host: "here", User: "me", Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	p, err := keystore.KeyFile(r.key)
	must(t, err)
	ks, err := keystore.Create(rand.Reader, time.Now(), keystore.Params{Suite: 1, BlockSize: 4096, SmallFile: 16384, ExtentSize: 16 << 20},
		[]keystore.NewSlot{{Kind: "keyfile", Label: "test", Provider: p}})
	must(t, err)
	st := r.create()
	must(t, Init(context.Background(), st, ks, InitOptions{Clock: systemClock{}, Rand: rand.Reader, Host: "here", User: "me"}))
	must(t, st.Close())
	r.open()
	t.Cleanup(func() {
		if r.fs != nil {
			r.close()
		}
	})
	return r
}

func (r *rig) create() remote.Local {
	st, err := remotedir.Create(r.path, r.storeOptions())
	must(r.t, err)
	return st
}

func (r *rig) open() {
	r.t.Helper()
	must(r.t, r.openErr())
}

// openErr opens the vault; if that is refused, nothing is open.
func (r *rig) openErr() error {
	r.t.Helper()
	st, err := remotedir.Open(r.path, r.storeOptions())
	must(r.t, err)
	file, _, err := Peek(context.Background(), st, "")
	must(r.t, err)
	p, err := keystore.KeyFile(r.key)
	must(r.t, err)
	ks, err := file.Unlock(context.Background(), []keystore.Provider{p})
	must(r.t, err)
	o := r.opts
	o.Store, o.Keys = st, ks
	if r.wrap != nil {
		o.Store = r.wrap(st)
	}
	f, err := Open(context.Background(), o)
	if err != nil {
		must(r.t, st.Close())
		return err
	}
	r.fs = f
	return nil
}

func (r *rig) close() {
	r.t.Helper()
	must(r.t, r.fs.Close(context.Background()))
	r.fs = nil
}

// abandon lets go of the vault as kill -9 would: nothing is flushed, folded or closed.
func (r *rig) abandon() {
	r.fs.stopLoop()
	r.fs.journal.Close()
	must(r.t, r.fs.store.Close())
	r.fs = nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) write(path string, data []byte) {
	r.t.Helper()
	ctx := context.Background()
	dirPath, name := splitLast(path)
	d, _, err := r.fs.Resolve(ctx, dirPath)
	must(r.t, err)
	defer r.fs.Forget(d, 1)
	ino, h, _, err := r.fs.Create(ctx, d, name, 0o644, Cred{})
	if errors.Is(err, ErrExist) {
		ino, _, err = r.fs.Lookup(ctx, d, name)
		must(r.t, err)
		h, err = r.fs.Open(ctx, ino)
	}
	must(r.t, err)
	_, err = h.WriteAt(ctx, data, 0, false)
	must(r.t, err)
	must(r.t, h.Flush(ctx))
	h.Close()
	r.fs.Forget(ino, 1)
}

func splitLast(path string) (string, string) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i], path[i+1:]
		}
	}
	return "", path
}

func (r *rig) mkdir(path string) {
	r.t.Helper()
	ctx := context.Background()
	dirPath, name := splitLast(path)
	d, _, err := r.fs.Resolve(ctx, dirPath)
	must(r.t, err)
	ino, _, err := r.fs.Mkdir(ctx, d, name, 0o755, Cred{})
	must(r.t, err)
	r.fs.Forget(d, 1)
	r.fs.Forget(ino, 1)
}

func (r *rig) read(path string) []byte {
	r.t.Helper()
	ctx := context.Background()
	ino, st, err := r.fs.Resolve(ctx, path)
	must(r.t, err)
	h, err := r.fs.Open(ctx, ino)
	must(r.t, err)
	defer h.Close()
	defer r.fs.Forget(ino, 1)
	p := make([]byte, st.Size)
	n, err := h.ReadAt(ctx, p, 0)
	must(r.t, err)
	return p[:n]
}

func (r *rig) names(path string) (names []string) {
	r.t.Helper()
	ctx := context.Background()
	ino, _, err := r.fs.Resolve(ctx, path)
	must(r.t, err)
	defer r.fs.Forget(ino, 1)
	must(r.t, r.fs.ReadDir(ctx, ino, cookieDotDot, func(e DirEntry) bool {
		names = append(names, e.Name)
		return true
	}))
	sort.Strings(names)
	return names
}

func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7) ^ byte(i>>8) ^ seed
	}
	return p
}

// TestLife goes through the life of a vault: written, closed, folded, killed, opened again.
func TestLife(t *testing.T) {
	sizes := []int{0, 1, 4095, 4096, 4097, 16384, 16385, 70_000, 1_000_000, 40_000_000}
	check := func(r *rig, when string) {
		t.Helper()
		for i, n := range sizes {
			if got := r.read(fmt.Sprintf("/d/f%d", n)); !bytes.Equal(got, pattern(n, byte(i))) {
				t.Fatalf("%s: file of %d bytes differs", when, n)
			}
		}
		if n := len(r.names("/d")); n != len(sizes) {
			t.Fatalf("%s: %d names", when, n)
		}
	}
	r := newRig(t)
	r.mkdir("/d")
	for i, n := range sizes {
		r.write(fmt.Sprintf("/d/f%d", n), pattern(n, byte(i)))
	}
	check(r, "written")
	r.abandon()
	r.open()
	check(r, "after a kill")
	must(t, r.fs.Fold(context.Background()))
	check(r, "after a fold")
	r.close()
	r.open()
	check(r, "after a clean end")
	r.write("/d/f70000", pattern(70_000, 99))
	r.abandon()
	r.open()
	if !bytes.Equal(r.read("/d/f70000"), pattern(70_000, 99)) {
		t.Fatal("overwritten file differs")
	}
}

// TestManyNames fills a directory beyond one shard, across folds, and takes names away again.
func TestManyNames(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	want := make(map[string]bool)
	for i := range 5000 {
		name := fmt.Sprintf("name-%d", i)
		ino, h, _, err := r.fs.Create(ctx, r.fs.Root(), name, 0o600, Cred{})
		must(t, err)
		h.Close()
		r.fs.Forget(ino, 1)
		want[name] = true
		if i%1700 == 1699 {
			must(t, r.fs.Fold(ctx))
		}
	}
	for i := 0; i < 5000; i += 3 {
		name := fmt.Sprintf("name-%d", i)
		must(t, r.fs.Unlink(ctx, r.fs.Root(), name))
		delete(want, name)
	}
	check := func(when string) {
		t.Helper()
		names := r.names("/")
		if len(names) != len(want) {
			t.Fatalf("%s: %d names, want %d", when, len(names), len(want))
		}
		for _, n := range names {
			if !want[n] {
				t.Fatalf("%s: %s is listed", when, n)
			}
		}
	}
	check("before the fold")
	must(t, r.fs.Fold(ctx))
	check("after the fold")
	r.close()
	r.open()
	check("after a remount")
	for n := range want {
		must(t, r.fs.Unlink(ctx, r.fs.Root(), n))
	}
	clear(want)
	must(t, r.fs.Fold(ctx))
	check("emptied")
	if _, st, err := r.fs.Resolve(ctx, "/"); err != nil || st.Size != 0 {
		t.Fatalf("top directory counts %d names, %v", st.Size, err)
	}
}

var _ = blockcrypt.BlockSize

// TestNewKeyAfterRemoval removes a slot and writes on: the file gets a data key under the new epoch, and what was
// written under the old one stays readable.
func TestNewKeyAfterRemoval(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	r.write("/f", pattern(100_000, 1))
	r.write("/g", pattern(5, 1))
	must(t, r.fs.Fold(ctx))
	second, err := keystore.KeyFile(bytes.Repeat([]byte{9}, 32))
	must(t, err)
	must(t, r.fs.ChangeKeys(ctx, func(v *keystore.Vault) (*keystore.Vault, error) {
		return v.AddSlot(ctx, rand.Reader, time.Now(), keystore.NewSlot{Kind: "keyfile", Label: "second", Provider: second})
	}))
	before := r.fs.keyring().Newest()
	must(t, r.fs.ChangeKeys(ctx, func(v *keystore.Vault) (*keystore.Vault, error) {
		return v.RemoveSlot(rand.Reader, time.Now(), v.File().Slots()[1].ID, false)
	}))
	if r.fs.keyring().Newest() <= before {
		t.Fatal("no new key epoch")
	}
	check := func(when string) {
		t.Helper()
		want := append(pattern(50_000, 2), pattern(100_000, 1)[50_000:]...)
		if !bytes.Equal(r.read("/f"), want) || !bytes.Equal(r.read("/g"), pattern(5, 1)) {
			t.Fatalf("%s: content differs", when)
		}
		var epochs []uint32
		must(t, r.fs.view(ctx, func() error {
			e, _, err := r.fs.find(r.fs.top.self, "f")
			if err != nil {
				return err
			}
			keys, err := r.fs.keysOf(e, r.fs.layers())
			epochs = epochs[:0]
			for _, k := range keys {
				epochs = append(epochs, k.Epoch)
			}
			return err
		}))
		if len(epochs) != 2 || epochs[1] != r.fs.keyring().Newest() {
			t.Fatalf("%s: data keys of epochs %v", when, epochs)
		}
	}
	r.write("/f", pattern(50_000, 2))
	check("written")
	r.abandon()
	r.open()
	check("after a kill")
	must(t, r.fs.Fold(ctx))
	check("folded")
	r.close()
	r.open()
	check("after a clean end")
}
