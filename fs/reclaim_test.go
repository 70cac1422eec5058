package fs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
	"envfs/remote/dir/memfs"
)

// aging returns a rig in memory whose clock is the test's.
func aging(t *testing.T) (*rig, *fixedClock) {
	t.Helper()
	clock := &fixedClock{now: time.Now()}
	r := makeRig(&rig{t: t, path: "vault", mem: memfs.New()})
	r.close()
	r.opts.Clock = clock
	r.open()
	return r, clock
}

// halfRoots names the copies of roots on a store that can be opened and whose trees are not whole.
func (r *rig) halfRoots(mem *memfs.FS) (half []string) {
	r.t.Helper()
	ctx := r.t.Context()
	look := &rig{t: r.t, path: r.path, key: r.key, opts: r.opts, mem: mem}
	look.opts.ReadOnly = true
	look.open()
	defer look.close()
	trees, err := look.fs.newCompleteness(ctx)
	must(r.t, err)
	must(r.t, look.fs.store.List(ctx, "roots/", func(i remote.Info) error {
		data, err := look.fs.store.Get(ctx, i.Name, blockcrypt.MaxRoot)
		if err != nil {
			return err
		}
		root, err := look.fs.vault.OpenRoot(look.fs.keyring(), data)
		if errors.Is(err, blockcrypt.ErrDamaged) { // torn: promises nothing
			return nil
		}
		if err != nil {
			return err
		}
		missing, err := trees.missing(ctx, root)
		if missing != "" {
			half = append(half, fmt.Sprintf("%s lacks %s", i.Name, missing))
		}
		return err
	}))
	return half
}

// Whatever a power loss leaves of the deletions of a fold, no copy of a root outlives what its tree needs.
func TestPowerLossWhileReclaiming(t *testing.T) {
	ctx := t.Context()
	r, clock := aging(t)
	for i := range 3 {
		r.write("small", pattern(3000, byte(i)))
		r.write("large", pattern(100_000, byte(i)))
		must(t, r.fs.Fold(ctx))
		clock.now = clock.now.Add(time.Hour)
	}
	clock.now = clock.now.Add(48 * time.Hour)
	before := r.mem.Log().Len()
	r.write("last", pattern(100, 9))
	must(t, r.fs.Fold(ctx))
	log := r.mem.Log()
	deleted := 0
	for at := before; at <= log.Len(); at++ {
		if at < log.Len() {
			if op := log.Op(at); op.Kind != memfs.OpRemove && op.Kind != memfs.OpSyncDir {
				continue
			}
			deleted++
		}
		for i, mode := range []memfs.Mode{memfs.ModePrefix, memfs.ModeDropAll, memfs.ModeRandom, memfs.ModeRandom, memfs.ModeRandom} {
			m := log.State(rand.New(rand.NewPCG(uint64(at-before), uint64(i))), at, mode)
			if half := r.halfRoots(m); half != nil {
				t.Fatalf("power loss after operation %d of %d, state %d: %q\n%s", at, log.Len(), i, half, m.Schedule())
			}
		}
	}
	if deleted < 5 {
		t.Fatalf("%d deletions", deleted)
	}
}

// The grace of a root's copy begins when the root is superseded: what was the newest moment an hour ago stays, however
// long it was.
func TestGraceOfAnOldRootBeginsWithTheNext(t *testing.T) {
	ctx := t.Context()
	r, clock := aging(t)
	r.write("a", pattern(100, 1))
	must(t, r.fs.Fold(ctx))
	r.close()
	r.open()
	kept := r.fs.root.Name().String()
	clock.now = clock.now.Add(10 * 24 * time.Hour)
	r.write("a", pattern(100, 2))
	r.close()
	for _, c := range []struct {
		after time.Duration
		there bool
	}{{time.Hour, true}, {22 * time.Hour, true}, {2 * time.Hour, false}} {
		clock.now = clock.now.Add(c.after)
		r.open()
		_, err := r.fs.store.Size(ctx, kept)
		if there := err == nil; there != c.there {
			t.Errorf("%v later: is there: %v (%v)", c.after, there, err)
		}
		r.close()
	}
}

// Of another line no root is deleted, also if its sequence is far behind: a machine that folds seldom numbers its roots
// slowly.
func TestForkOfLowSequenceStays(t *testing.T) {
	ctx := t.Context()
	r, clock := aging(t)
	fork := *r.fs.root
	for range 3 {
		r.write("a", pattern(100, 1))
		must(t, r.fs.Fold(ctx))
	}
	last := r.fs.root.Terms[len(r.fs.root.Terms)-1]
	tag := blockcrypt.Tag{9}
	copy(fork.R[:], tag[:])
	fork.Seq = r.fs.root.Terms[0].LastRootSeq - 1
	fork.Terms = append(slices.Clone(fork.Terms), blockcrypt.Term{Number: last.Number + 1, Tag: tag, Host: "there", LastRootSeq: fork.Seq, LastRootR: fork.R})
	kek, err := r.fs.keyring().KEK(fork.Epoch)
	must(t, err)
	data, err := r.fs.vault.SealRoot(r.fs.rand, kek, &fork)
	must(t, err)
	name := fork.Name().String()
	must(t, r.fs.store.Put(ctx, name, data))
	clock.now = clock.now.Add(48 * time.Hour)
	r.write("a", pattern(100, 2))
	must(t, r.fs.Fold(ctx))
	clock.now = clock.now.Add(48 * time.Hour)
	r.write("a", pattern(100, 3))
	must(t, r.fs.Fold(ctx))
	if _, err := r.fs.store.Size(ctx, name); err != nil {
		t.Errorf("the other side's root: %v", err)
	}
	must(t, r.fs.store.Delete(ctx, name))
}

// What a power loss brings back of objects that were deleted goes with the first fold of the next mount.
func TestDeletedObjectsThatComeBackGo(t *testing.T) {
	ctx := t.Context()
	r, clock := aging(t)
	for i := range byte(3) {
		r.write("a", pattern(100_000, i))
		must(t, r.fs.Fold(ctx))
	}
	was := make(map[string][]byte)
	for _, name := range r.objects() {
		data, err := r.fs.store.Get(ctx, name, maxObject)
		must(t, err)
		was[name] = data
	}
	clock.now = clock.now.Add(48 * time.Hour)
	for i := range byte(2) { // one deletes, the next says so in root
		r.write("b", pattern(100, i))
		must(t, r.fs.Fold(ctx))
	}
	there, back := r.objects(), []string(nil)
	for name, data := range was {
		n, err := blockcrypt.ParseName(name)
		if err == nil && !slices.Contains(there, name) && (n.Kind == blockcrypt.KindHeader || n.Kind == blockcrypt.KindIndex || n.Kind == blockcrypt.KindExtent) {
			must(t, r.fs.store.Put(ctx, name, data))
			back = append(back, name)
		}
	}
	r.close()
	if len(back) < 4 {
		t.Fatalf("only %q were deleted", back)
	}
	r.open()
	r.write("b", pattern(100, 3))
	must(t, r.fs.Fold(ctx))
	_, _, err := r.fs.Sweep(ctx) // as a mount does then
	must(t, err)
	for _, name := range r.objects() {
		if slices.Contains(back, name) {
			t.Errorf("%s is still there", name)
		}
	}
	r.close()
}
