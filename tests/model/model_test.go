package model

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"envfs/fs"
	"envfs/fs/fusefs"
	"envfs/tests/mountpoint"
	"envfs/tests/seed"
)

var (
	seedFlag = flag.Uint64("model.seed", 0, "seed of the random operations; 0: another one each time")
	opsFlag  = flag.Int("model.ops", 1000, "how many random operations each worker does")
)

func newSeed(t *testing.T) uint64 {
	t.Helper()
	return seed.Of(t, "model.seed", *seedFlag)
}

// world is a pair of trees and what happens to them.
type world struct {
	plain, vault side
	gen          generator
	fold         func() error // if not nil: called now and then
	log          []string     // the last operations
}

func newWorld(plain, vault string, seed, worker uint64) *world {
	return &world{plain: side{root: plain}, vault: side{root: vault, vault: true}, gen: generator{rnd: rand.New(rand.NewPCG(seed, worker))}}
}

// step does one operation on both sides and returns how they differ.
func (w *world) step() error {
	o := w.gen.next()
	w.note(o.name)
	a, b := o.do(&w.plain), o.do(&w.vault)
	if o.opens && a.err == nil && b.err == nil {
		w.plain.files = append(w.plain.files, int(a.n))
		w.vault.files = append(w.vault.files, int(b.n))
		w.gen.open++
		a.n, b.n = 0, 0
	}
	if a != b {
		return w.differ(fmt.Errorf("%s:\nplain %v\nvault %v", o.name, a, b))
	}
	for _, p := range o.paths {
		if err := w.compareStat(p); err != nil {
			return w.differ(fmt.Errorf("after %s: %w", o.name, err))
		}
	}
	return nil
}

func (w *world) note(what string) {
	const keep = 60
	w.log = append(w.log, what)
	if len(w.log) > 2*keep {
		w.log = append(w.log[:0], w.log[keep:]...)
	}
}

func (w *world) differ(err error) error {
	return fmt.Errorf("step %d: %w\nthe last operations:\n%s", w.gen.step, err, strings.Join(w.log, "\n"))
}

func (w *world) compareStat(path string) error {
	if path == "." { // its mode and times are of another making
		return nil
	}
	var a, b unix.Stat_t
	errA, errB := unix.Lstat(w.plain.path(path), &a), unix.Lstat(w.vault.path(path), &b)
	if errA != errB {
		return fmt.Errorf("stat %s: plain %v, vault %v", path, errA, errB)
	}
	if errA == nil && describe(&a) != describe(&b) {
		return fmt.Errorf("%s differs:\nplain %s\nvault %s", path, describe(&a), describe(&b))
	}
	return nil
}

// look tells the generator which names there are.
func (w *world) look() error {
	items, err := walk(w.plain.root, false)
	w.gen.names = w.gen.names[:0]
	for _, it := range items {
		w.gen.names = append(w.gen.names, it.path)
	}
	return err
}

// closeAll closes the open files of both sides.
func (w *world) closeAll() {
	for _, s := range []*side{&w.plain, &w.vault} {
		for _, fd := range s.files {
			unix.Close(fd)
		}
		s.files = nil
	}
	w.gen.open = 0
}

// run does n operations and compares the trees.
func (w *world) run(n int) error {
	for i := range n {
		if i%32 == 0 {
			if err := w.look(); err != nil {
				return err
			}
		}
		if err := w.step(); err != nil {
			return err
		}
		if w.fold != nil && w.gen.rnd.IntN(100) == 0 {
			w.note("fold")
			if err := w.fold(); err != nil {
				return w.differ(fmt.Errorf("fold: %w", err))
			}
		}
		if i%500 == 499 {
			if err := w.compare(); err != nil {
				return err
			}
		}
	}
	return w.compare()
}

func (w *world) compare() error {
	if err := compareTrees(w.plain.root, w.vault.root); err != nil {
		return w.differ(err)
	}
	return nil
}

// tight are limits that are reached all the time.
var tight = fs.Limits{Cache: 64 << 10, Deltas: 64 << 10, Inline: 64 << 10, Dirty: 64 << 10, Extent: 16}

var modes = []struct {
	name string
	fuse fusefs.Options
	fs   fs.Options
}{
	{"writethrough", fusefs.Options{}, fs.Options{}},
	{"writeback", fusefs.Options{Writeback: true}, fs.Options{}},
	{"little memory", fusefs.Options{MaxNodes: 32}, fs.Options{Limits: tight}},
}

// One worker, with folds, and with unmounting and mounting again in between.
func TestModel(t *testing.T) {
	seed := newSeed(t)
	for i, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			const rounds = 4
			v := mountpoint.NewVault(t)
			plain := t.TempDir()
			w := newWorld(plain, "", seed, uint64(i))
			w.vault.kernelTimes = mode.fuse.Writeback
			defer w.closeAll()
			for range rounds {
				m := v.Mount(t, mountpoint.Options{FUSE: mode.fuse, FS: mode.fs})
				w.vault.root = m.Dir
				w.fold = func() error { return m.FS.Fold(t.Context()) }
				if err := w.compare(); err != nil {
					t.Fatalf("after mounting: %v", err)
				}
				if err := w.run(*opsFlag / rounds); err != nil {
					w.closeAll()
					t.Fatal(err)
				}
				w.closeAll()
				m.Unmount(t)
				w.note("unmounted and mounted again")
			}
			m := v.Mount(t, mountpoint.Options{FS: fs.Options{ReadOnly: true}})
			w.vault.root = m.Dir
			if err := w.compare(); err != nil {
				t.Fatalf("after mounting read-only: %v", err)
			}
			m.Unmount(t)
		})
	}
}

// Several workers at once, each in a subtree of its own, with folds meanwhile.
func TestModelConcurrent(t *testing.T) {
	const workers = 6
	seed := newSeed(t)
	v := mountpoint.NewVault(t)
	m := v.Mount(t, mountpoint.Options{})
	plain := t.TempDir()
	worlds := make([]*world, workers)
	for i := range worlds {
		sub := fmt.Sprint("worker", i)
		for _, root := range []string{plain, m.Dir} {
			if err := os.Mkdir(filepath.Join(root, sub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		worlds[i] = newWorld(filepath.Join(plain, sub), filepath.Join(m.Dir, sub), seed, 100+uint64(i))
	}
	done := make(chan struct{})
	var folding sync.WaitGroup
	folding.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond): // any rhythm will do
			}
			if err := m.FS.Fold(t.Context()); err != nil {
				t.Errorf("fold: %v", err)
				return
			}
		}
	})
	var wg sync.WaitGroup
	for i, w := range worlds {
		wg.Go(func() {
			defer w.closeAll()
			if err := w.run(*opsFlag / 2); err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	close(done)
	folding.Wait()
	m.Unmount(t)
	m = v.Mount(t, mountpoint.Options{})
	if err := compareTrees(plain, m.Dir); err != nil {
		t.Errorf("after mounting again: %v", err)
	}
	m.Unmount(t)
}
