package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"envfs/fs"
	"envfs/remote/cache"
	"envfs/remote/dir/memfs"
)

// world is a bucket with a vault, and what its machines have in common.
type world struct {
	ctx    context.Context
	opener *opener
	clock  *clock
	limits fs.Limits
	temp   string // directory of the cache
	bucket *bucket
	seeds  []uint64
}

// machine is one that shares the vault with others. What it does is a session.
type machine struct {
	*session
	w      *world
	id     int
	far    *client
	disk   disk
	began  int         // its first event
	before *tree       // what it has found
	hook   *sync.Mutex // held by who works beside a fold
	beside func(name string)
	dead   bool
}

// machine returns one with a disk of its own, that has not opened the vault yet.
func (w *world) machine(id int, m *memfs.FS, t *tree) *machine {
	seeds := append(append([]uint64{}, w.seeds...), uint64(100+id))
	a := &machine{w: w, id: id, disk: disk{m}, before: t, hook: new(sync.Mutex)}
	a.session = &session{ctx: w.ctx, opener: w.opener, stage: &stage{FS: m}, clock: w.clock, limits: w.limits, tree: t,
		rnd: seeded(seeds...), rng: rand.New(source(append(seeds, 1)...)), shared: a}
	for id := range t.inodes {
		a.nextID = max(a.nextID, id+1)
	}
	a.far = &client{bucket: w.bucket, id: id, onPut: a.onPut}
	if tape := w.bucket.tape; tape != nil {
		tape.mu.Lock()
		tape.disks[id] = func() int { return m.Log().Len() }
		tape.mu.Unlock()
		a.began = tape.len()
	}
	a.hist.add(step{what: "what was there", kind: stepOp, tree: t})
	return a
}

// onPut has the session act beside a fold.
func (a *machine) onPut(name string) {
	if !a.hook.TryLock() {
		return
	}
	defer a.hook.Unlock()
	if a.beside != nil {
		a.beside(name)
	}
}

// setBeside waits for what goes on beside a fold.
func (a *machine) setBeside(fn func(name string)) {
	a.hook.Lock()
	defer a.hook.Unlock()
	a.beside = fn
}

// noCache makes dir one in which a cache keeps nothing, as if its disk were full: what it held would hide what is gone.
func noCache(dir string) error {
	for i := range 256 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02x", i)), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) store(far *client, d disk) (*cache.Store, error) {
	return cache.Open(far, cache.Options{State: "state", Kept: "kept", Cache: w.temp, StateSize: 1 << 30, Disk: d})
}

// open opens the vault to write, or as o says.
func (a *machine) open(o fs.Options) error {
	st, err := a.w.store(a.far, a.disk)
	if err != nil {
		return err
	}
	a.store = st
	o.Clock, o.Rand, o.Limits, o.Host = a.clock, a.rnd, a.limits, fmt.Sprintf("machine%d", a.id)
	if a.fs, err = a.opener.openOn(a.ctx, st, o); err != nil {
		return errors.Join(err, st.Close())
	}
	return nil
}

// publishes does a step after which others see all that was done before it.
func (a *machine) publishes(do func() error) error {
	err := do()
	if err == nil {
		a.histMu.Lock()
		a.hist.steps[len(a.hist.steps)-1].published = true
		a.histMu.Unlock()
	}
	return err
}

func (a *machine) publish() error {
	return a.publishes(func() error {
		return a.do("publish", stepAll, 0, func() error { return a.fs.Publish(a.ctx) }, nil)
	})
}

// actsAndPublishes is what happens beside folds.
func (a *machine) actsAndPublishes() error {
	err := a.acts()
	if err == nil && a.rng.IntN(2) == 0 {
		err = a.publish()
	}
	if err == nil && a.rng.IntN(2) == 0 {
		err = a.acts()
	}
	return err
}

// reader opens the vault with nothing but the bucket.
func (w *world) reader(o fs.Options) (*fs.FS, error) {
	st, err := w.store(&client{bucket: w.bucket, id: -1}, disk{memfs.New()})
	if err != nil {
		return nil, err
	}
	o.Clock, o.Limits = w.clock, w.limits
	f, err := w.opener.openOn(w.ctx, st, o)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return f, nil
}

// seen returns what a reader with nothing but the bucket sees, which must be undamaged.
func (w *world) seen() (*tree, error) {
	f, err := w.reader(fs.Options{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("open to read: %w", err)
	}
	t, err := dumpWith(w.ctx, f, &client{bucket: w.bucket, id: -1})
	if err == nil {
		err = inspect(w.ctx, f)
	}
	return t, errors.Join(err, f.Close(w.ctx))
}

// inspect looks for damage.
func inspect(ctx context.Context, f *fs.FS) error {
	var found []string
	_, err := f.Check(ctx, fs.CheckOptions{}, func(f fs.Finding) { found = append(found, fmt.Sprintf("%+v", f)) })
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("check finds damage: %q", found)
	}
	return err
}
