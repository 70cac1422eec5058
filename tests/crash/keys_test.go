package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"envfs/fs"
	"envfs/remote/dir/memfs"
)

// fewFiles has several folds do one rewrap of a small tree.
var fewFiles = fs.Limits{Extent: 8, Dirty: 128 << 10, Grace: 24 * time.Hour, Renew: 3}

// TestKeysAtEveryPoint cuts a script of changes of keys, rewraps and sealing anew at every operation of the file system
// below, by kill -9 or by a loss of power. Each time the vault opens with the slots that it has at that moment, shows what
// was acknowledged, tells truly which key epochs are in use, and finishes what was broken off; and nothing is left over when
// the grace has ended.
func TestKeysAtEveryPoint(t *testing.T) {
	seed := shortSeed(t)
	w := &workload{limits: fewFiles}
	s, err := w.record(t.Context(), seed, 0)
	must(t, err)
	must(t, s.keysTree())
	from := s.at()
	for _, do := range s.keysScript() {
		must(t, do())
	}
	must(t, s.finish())
	log := s.stage.Log()
	var next, states atomic.Int64
	next.Store(int64(from))
	var g errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for p := int(next.Add(1)) - 1; p <= log.Len(); p = int(next.Add(1)) - 1 {
				n, err := keysCutAt(t.Context(), s, log, seed, p)
				states.Add(int64(n))
				if err != nil {
					return fmt.Errorf("seed: -crash.seed=%d: %w", seed, err)
				}
			}
			return nil
		})
	}
	must(t, g.Wait())
	t.Logf("%d states of %d operations", states.Load(), log.Len()-from)
}

// keysCutAt checks what an end after p operations leaves. Now and then what follows is cut, too.
func keysCutAt(ctx context.Context, s *session, log *memfs.Log, seed uint64, p int) (states int, err error) {
	c := *newClock()
	c.now = s.clock.Now()
	v := &verifier{opener: new(opener), limits: fewFiles, hist: &s.hist, failed: s.failed, log: log,
		seed: source(seed, uint64(p)).Uint64(), clock: &c, goOn: (*session).finishKeys}
	defer v.opener.close()
	rng := rand.New(source(seed, uint64(p), 9))
	mode, depth := memfs.ModePrefix, 0
	if rng.IntN(2) == 0 {
		mode = drawMode(rng)
	}
	if rng.IntN(12) == 0 {
		depth = 1
	}
	err = v.crashAt(ctx, p, mode, uint64(p), depth)
	return v.states, err
}

// keysTree makes a small tree of all that is under keys: files that lie in their headers and in extents, names that share
// a file, a file without a name, directories.
func (s *session) keysTree() error {
	for _, dir := range []string{"/a", "/a/b", "/c"} {
		if err := s.mkdir(dir); err != nil {
			return err
		}
	}
	for i, size := range []int{300, 16_385, 40_000} {
		for _, dir := range []string{"", "/a", "/a/b"} {
			if err := s.put(fmt.Sprintf("%s/f%d", dir, i), s.bytes(size), false); err != nil {
				return err
			}
		}
	}
	h, err := s.create("/gone")
	if err != nil {
		return err
	}
	for _, do := range []func() error{
		func() error { return s.symlink("/c/s", "/a/f1") },
		func() error { return s.link("/a/f2", "/c/linked") },
		func() error { return s.write(h, 0, s.bytes(20_000)) },
		func() error { return s.unlink("/gone") },
		s.fold,
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// keysScript changes keys, and works under them.
func (s *session) keysScript() []func() error {
	change := func(c *keyChange) func() error { return func() error { return s.change(c) } }
	add := func() error {
		c, err := s.addSlot(1)
		return errors.Join(err, s.change(c))
	}
	replace := func() error {
		c, err := s.replaceSlot(slotLabel(1), 2)
		return errors.Join(err, s.change(c))
	}
	put := func(path string, size int) func() error {
		return func() error { return s.put(path, s.bytes(size), s.rng.IntN(2) == 0) }
	}
	return []func() error{
		add, put("/a/f0", 100),
		change(s.removeSlot(slotLabel(0))), put("/a/f1", 30_000), put("/new", 5000),
		s.rewrap,
		replace, put("/a/b/f2", 50_000),
		func() error { return s.reencrypt("/a") },
		func() error { return s.breakRewrap(4) },
		put("/f1", 9000), s.rewrap,
		change(s.rotation()), func() error { s.aside = s.acts; return nil }, s.rewrap, put("/f0", 100),
	}
}

// finishKeys has who has recovered a vault bring to its end what was broken off, change the keys again, and wait for the
// end of the grace.
func (s *session) finishKeys() error {
	sealAnew := func() error { return s.reencrypt("") }
	change := func() error { return s.change(s.removeOrAdd()) }
	for i, do := range []func() error{
		s.rewrap, s.verify, s.inspect, s.acts, change, s.acts, sealAnew, s.closeHandles, s.kill, sealAnew, s.isSealedAnew, s.verify,
		s.rewrap, s.inspect, s.graceEnds, s.closeHandles, s.store.Close,
	} {
		if err := do(); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	return nil
}

// removeOrAdd removes a slot if another remains, else it adds one.
func (s *session) removeOrAdd() *keyChange {
	if len(s.tree.slots) > len(slotLabel(0)) {
		return s.removeSlot(s.tree.slots[:len(slotLabel(0))])
	}
	for n := range pool {
		if slotLabel(n) != s.tree.slots {
			if c, err := s.addSlot(n); err == nil {
				return c
			}
		}
	}
	return s.rotation()
}
