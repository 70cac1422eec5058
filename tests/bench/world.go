package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"envfs/tests/bench/lab"
)

// world is a peer with a store of its own, and what steps have left in it. It is mounted only while it is used.
type world struct {
	kind
	peer
	dir        string // of all that belongs to it
	site       site   // but dir, which is known when it is mounted
	keepCaches bool
	has        map[thing]bool
	peak       int64 // bytes of memory that its daemons have had so far
}

// newWorld makes a world below place.
func newWorld(place string, k kind, t *tools, s site) (*world, error) {
	w := &world{kind: k, dir: filepath.Join(place, k.name), site: s, has: make(map[thing]bool)}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if w.peer, err = k.create(t, w.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("make %s: %w", k.name, err), os.RemoveAll(w.dir))
	}
	return w, nil
}

// discard removes the world. If it cannot be unmounted, its files stay.
func (w *world) discard() error {
	if err := w.peer.discard(); err != nil {
		return fmt.Errorf("discard %s: %w", w.name, err)
	}
	return os.RemoveAll(w.dir)
}

// measurement is how a step went.
type measurement struct {
	value float64       // in the step's unit
	after time.Duration // that unmounting took, and syncing the store: what was left to be done
}

// measure does a step of a chapter.
func (w *world) measure(ctx context.Context, chapter []step, s step) (m measurement, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %s: %w", w.name, s.name, err)
		}
	}()
	if s.needs != nothing && !w.has[s.needs] {
		if _, err := w.mounted(func(at *site) error {
			_, err := maker(chapter, s.needs).work(ctx, at)
			return err
		}); err != nil {
			return m, err
		}
	}
	m.after, err = w.mounted(func(at *site) error {
		if err := w.settle(ctx, s, at); err != nil {
			return err
		}
		start := time.Now()
		amount, err := s.work(ctx, at)
		took := time.Since(start).Seconds()
		if m.value = took; s.unit.MoreIsBetter() {
			m.value = amount / took
		}
		return err
	})
	w.has[s.makes] = true
	w.has[s.ends] = false
	return m, err
}

// mounted calls fn while the peer is mounted, and returns how long it took to unmount it and to sync the store. After an
// error it may still be mounted.
func (w *world) mounted(fn func(*site) error) (time.Duration, error) {
	if err := w.mount(); err != nil {
		return 0, err
	}
	at := w.site
	at.dir = w.root()
	if err := fn(&at); err != nil {
		return 0, err
	}
	if err := w.remember(); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := w.unmount(); err != nil {
		return 0, err
	}
	err := lab.SyncAll(w.dir)
	return time.Since(start), err
}

// settle brings everything into the state in which the step begins, with nothing left to be written.
func (w *world) settle(ctx context.Context, s step, at *site) error {
	if s.cold && !w.keepCaches {
		if err := lab.DropCaches(); err != nil {
			return err
		}
	}
	if s.program != "" { // the program itself is never cold
		if err := lab.Program(ctx, "/", "", s.program, "--version"); err != nil {
			return err
		}
	}
	if s.warm != nil {
		if _, err := s.warm(ctx, at); err != nil {
			return err
		}
	}
	if err := lab.SyncAll(at.dir); err != nil { // what the kernel gathers with the writeback cache
		return err
	}
	if err := lab.SyncAll(w.dir); err != nil {
		return err
	}
	runtime.GC()
	return nil
}

// remember takes note of how much memory the daemon has had.
func (w *world) remember() error {
	if w.pid() == 0 {
		return nil
	}
	peak, err := lab.PeakMemory(w.pid())
	w.peak = max(w.peak, peak)
	return err
}
