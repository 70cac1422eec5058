package fs

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/keystore"
)

// grown makes a tree with files of every kind of header, and returns what they hold.
func (r *rig) grown() map[string][]byte {
	t := r.t
	t.Helper()
	ctx := t.Context()
	want := make(map[string][]byte)
	put := func(path string, data []byte) {
		r.write(path, data)
		want[path] = data
	}
	r.mkdir("/a")
	r.mkdir("/a/deep")
	r.mkdir("/many")
	r.mkdir("/empty")
	for i := range 30 {
		put(fmt.Sprintf("/a/deep/f%d", i), pattern(i*700, byte(i)))
	}
	for i := range 1500 { // more than an index holds
		put(fmt.Sprintf("/many/n%04d", i), pattern(i%50, byte(i)))
	}
	put("/big", pattern(3<<20, 9))
	broken := make([]byte, 12<<20) // a map of many pages
	r.write("/broken", nil)
	for n := 0; n < len(broken); n += 2 * blockcrypt.BlockSize {
		copy(broken[n:], pattern(blockcrypt.BlockSize, byte(n>>13)))
		r.writeAt("broken", broken[n:n+blockcrypt.BlockSize], int64(n))
	}
	want["/broken"] = broken[:len(broken)-blockcrypt.BlockSize]
	put("/linked", pattern(20_000, 4))
	ino, _, err := r.fs.Resolve(ctx, "/linked")
	must(t, err)
	_, _, err = r.fs.Link(ctx, ino, r.fs.Root(), "second")
	must(t, err)
	r.fs.Forget(ino, 1)
	want["/second"] = want["/linked"]
	return want
}

// holds checks what files hold.
func (r *rig) holds(want map[string][]byte, when string) {
	r.t.Helper()
	for path, data := range want {
		if got := r.read(path); !bytes.Equal(got, data) {
			r.t.Errorf("%s: %s differs: %d bytes, not %d", when, path, len(got), len(data))
		}
	}
}

// retireOld takes the KEKs of older key epochs out of the keyring: what still needs one can never be read again.
func (r *rig) retireOld() {
	r.t.Helper()
	must(r.t, r.fs.ChangeKeys(r.t.Context(), func(k *keystore.Vault) (*keystore.Vault, error) {
		old := slices.DeleteFunc(k.Epochs(), func(e uint32) bool { return e == k.Newest() })
		return k.Retire(rand.Reader, time.Now(), old...)
	}))
}

// After Rewrap nothing of the tree needs an older key epoch, and nothing else has changed: also what others wrote
// meanwhile.
func TestRewrap(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	want := r.grown()
	must(t, r.fs.Fold(ctx))
	r.newEpoch()
	r.write("/a/deep/f3", pattern(5000, 77)) // has a data key of each epoch, or one
	want["/a/deep/f3"] = pattern(5000, 77)
	part := pattern(blockcrypt.BlockSize, 78)
	r.writeAt("broken", part, 0) // pages of two epochs
	copy(want["/broken"], part)
	must(t, r.fs.Fold(ctx))
	r.newEpoch()
	use, err := r.fs.KeyUse(ctx)
	must(t, err)
	if use.Newest != 3 || use.Old() < 1500 || len(use.Tree) != 3 || use.Skipped != 0 || use.Tree[1].Pages == 0 {
		t.Fatalf("before: %+v", use)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	meanwhile := make(map[string][]byte)
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			path := fmt.Sprintf("/many/w%03d", i%200)
			data := pattern(100+i%200*10, byte(i))
			r.write(path, data)
			meanwhile[path] = data
		}
	}()
	var last, total int64
	res, err := r.fs.Rewrap(ctx, func(d, n int64) { last, total = d, n })
	close(stop)
	<-stopped
	must(t, err)
	if res.Epoch != 3 || res.Files < 1500 || res.Damaged != 0 || last != res.Files || total < last {
		t.Errorf("rewrap: %+v, progress %d of %d", res, last, total)
	}
	for path, data := range meanwhile {
		want[path] = data
	}
	must(t, r.fs.Fold(ctx))
	use, err = r.fs.KeyUse(ctx)
	must(t, err)
	if use.Old() != 0 || use.Skipped != 0 || !slices.Equal(use.Journal, []uint32{3}) && len(use.Journal) > 0 {
		t.Errorf("afterwards: %+v", use)
	}
	r.holds(want, "after rewrapping")
	r.audit()
	if again, err := r.fs.Rewrap(ctx, nil); err != nil || again.Files != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	born := func(path string) (epochs []uint32) {
		must(t, r.fs.view(ctx, func() error {
			e, _, err := r.fs.find(r.fs.top.self, path)
			if err != nil {
				return err
			}
			keys, err := r.fs.keysOf(e, r.fs.layers())
			epochs = nil
			for _, k := range keys {
				if k.Epoch != 3 {
					t.Errorf("a data key is wrapped under epoch %d", k.Epoch)
				}
				epochs = append(epochs, k.Born)
			}
			return err
		}))
		return epochs
	}
	if got := born("big"); !slices.Equal(got, []uint32{1}) {
		t.Errorf("the data key of an untouched file was made in %v", got)
	}
	r.writeAt("big", []byte("x"), 0) // who knew the data key in epoch 1 shall not read this
	if got := born("big"); !slices.Equal(got, []uint32{1, 3}) {
		t.Errorf("after a write its data keys were made in %v", got)
	}
	copy(want["/big"], "x")
	r.close()
	r.open()
	r.holds(want, "opened again")
	r.retireOld()
	must(t, r.fs.view(ctx, func() error { return nil }))
	r.abandon()
	r.opts.ReadOnly = true
	r.open()
	r.holds(want, "without the old keys")
}

// stillOld returns a file whose header an older key epoch has sealed.
func (r *rig) stillOld(paths map[string][]byte) (found string) {
	r.t.Helper()
	for path := range paths {
		ino, _, err := r.fs.Resolve(r.t.Context(), path)
		must(r.t, err)
		must(r.t, r.fs.view(r.t.Context(), func() error {
			e, err := r.fs.entry(ino)
			if err == nil && e.Head.Version.Birth < r.fs.root.Epochs[len(r.fs.root.Epochs)-1].Fold {
				found = path
			}
			return err
		}))
		r.fs.Forget(ino, 1)
	}
	if found == "" {
		r.t.Fatal("no file is under an older key epoch")
	}
	return found
}

// Rewrapping that is broken off is gone on with, and a damaged file keeps nothing else from being rewrapped.
func TestRewrapBrokenOff(t *testing.T) {
	r := newRig(t)
	r.close()
	r.opts.Limits.Renew = 400
	r.open()
	want := r.grown()
	must(t, r.fs.Fold(t.Context()))
	r.newEpoch()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if res, err := r.fs.Rewrap(ctx, func(done, _ int64) { cancel() }); err == nil || res.Files == 0 || res.Files > 1000 {
		t.Errorf("broken off: %+v, %v", res, err)
	}
	r.abandon()
	r.open()
	r.holds(want, "after it was broken off")
	spoilt := r.stillOld(want)
	r.spoil(r.objectsOf(spoilt, "h"))
	r.forget()
	off, end := context.WithCancel(t.Context())
	defer end()
	rounds := 0
	res, err := r.fs.Rewrap(off, func(_, _ int64) {
		if rounds++; rounds == 50 {
			end() // it goes on for ever
		}
	})
	must(t, err)
	if res.Damaged != 1 {
		t.Errorf("with a damaged file: %+v", res)
	}
	use, err := r.fs.KeyUse(t.Context())
	must(t, err)
	if use.Old() != 1 {
		t.Errorf("with a damaged file: %+v", use)
	}
	delete(want, spoilt)
	r.holds(want, "beside a damaged file")
}
