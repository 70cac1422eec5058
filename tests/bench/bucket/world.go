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

// world is a peer with a bucket of its own, and what steps have left in it. It is mounted only while it is used.
type world struct {
	kind
	peer
	env        environment
	site       site // but dir and peer
	keepCaches bool
	peak       int64 // bytes of memory that its daemons have had so far
}

// newWorld makes a world below place.
func newWorld(env environment, place string, k kind, s site) (*world, error) {
	w := &world{kind: k, env: env, site: s}
	w.env.dir = filepath.Join(place, k.name)
	if err := os.Mkdir(w.env.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if w.env.bucket, err = env.server.newBucket(env.ctx); err == nil {
		w.peer, err = k.create(&w.env)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make %s: %w", k.name, err), w.discard())
	}
	return w, nil
}

// discard removes the world. If it cannot be unmounted, its files stay.
func (w *world) discard() error {
	if w.peer != nil {
		if err := w.peer.discard(); err != nil {
			return fmt.Errorf("discard %s: %w", w.name, err)
		}
	}
	err := os.RemoveAll(w.env.dir)
	if w.env.bucket != "" {
		err = errors.Join(err, w.env.server.removeBucket(w.env.bucket))
	}
	return err
}

// measurement is how a step went.
type measurement struct {
	mounted        time.Duration // what mounting took
	asked          counts        // requests of that
	amount         float64
	returned, safe time.Duration
	requests       counts // until then
}

// do does a step, with the server far away or not.
func (w *world) do(ctx context.Context, s *step, latency time.Duration) (m measurement, err error) {
	defer func() {
		w.env.server.delay.set(0)
		if err != nil {
			err = fmt.Errorf("%s: %s: %w", w.name, s.name, err)
		}
	}()
	if s.cold {
		if err := w.forget(); err != nil {
			return m, err
		}
	}
	at := w.site
	server := w.env.server
	server.delay.set(latency)
	server.counter.note(fmt.Sprintf("# %s: mount", w.name))
	before, start := server.counter.now(), time.Now()
	mount, safe := w.mount, w.safe
	if d, ok := w.peer.(durable); ok && s.fsync != nil {
		mount = d.mountDurable
		safe = func(ctx context.Context) (time.Time, error) {
			_, err := s.fsync(ctx, &at)
			return time.Now(), err
		}
	}
	if err := mount(); err != nil {
		return m, err
	}
	if _, ok := w.peer.(blobs); !ok {
		m.mounted, m.asked = time.Since(start), server.counter.now().minus(before)
	}
	at.dir, at.peer = w.root(), w.peer
	if err := w.guarded(ctx, func() error { return w.settle(ctx, s, &at) }); err != nil {
		return m, err
	}
	server.counter.note(fmt.Sprintf("# %s: %s", w.name, s.name))
	before, start = server.counter.now(), time.Now()
	err = w.guarded(ctx, func() (err error) {
		m.amount, err = s.work(ctx, &at)
		m.returned = time.Since(start)
		server.counter.note("# returned")
		if err == nil && s.saves {
			var when time.Time
			when, err = safe(ctx)
			m.safe = when.Sub(start)
		}
		return err
	})
	m.requests = server.counter.now().minus(before)
	server.counter.note("# safe")
	if err != nil {
		return m, err
	}
	if err := w.remember(); err != nil {
		return m, err
	}
	return m, w.unmount()
}

// guarded calls fn. If ctx ends meanwhile the peer is taken away, as nothing else wakes up who waits for it.
func (w *world) guarded(ctx context.Context, fn func() error) error {
	done := make(chan struct{})
	var err error
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		err = w.peer.discard()
	})
	failed := fn()
	if !stop() {
		<-done
		return errors.Join(ctx.Err(), failed, err)
	}
	return failed
}

// settle brings everything into the state in which the step begins, with nothing left to be written.
func (w *world) settle(ctx context.Context, s *step, at *site) error {
	if s.warm {
		if _, err := list(ctx, at); err != nil {
			return err
		}
	}
	if err := lab.SyncAll(w.env.dir); err != nil { // the server's file system, too
		return err
	}
	if s.cold && !w.keepCaches {
		if err := lab.DropCaches(); err != nil {
			return err
		}
	}
	for _, name := range []string{"ls", "cp", "rm", "git", "sqlite3"} { // programs are never cold
		if err := lab.Program(ctx, "/", "", name, "--version"); err != nil {
			return err
		}
	}
	runtime.GC()
	return nil
}

// remember takes note of how much memory the daemons have had, together.
func (w *world) remember() error {
	var sum int64
	for _, pid := range w.pids() {
		peak, err := lab.PeakMemory(pid)
		if err != nil {
			return err
		}
		sum += peak
	}
	w.peak = max(w.peak, sum)
	return nil
}
