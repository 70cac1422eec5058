package crash

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/keystore"
	"envfs/remote/dir/memfs"
)

var parallelFlag = flag.Int("crash.parallel", 50, "how many runs of TestParallel")

// fleet is a vault on which several sessions work at the same time, each in a directory of its own, while the vault is
// folded, synced, swept and rewritten, and the file system below fails now and then.
type fleet struct {
	main     *session
	sessions []*session
	rng      *rand.Rand
	limits   fs.Limits
	full     bool                        // space is wanting now and then, also for what flushes write
	sick     bool                        // the disk cannot read objects of the tree now and then
	start    int                         // length of the log when they began
	open     map[*session]chan []*handle // that others may use

	mu      sync.Mutex
	stopped bool // by a fault from which the vault does not go on
}

const (
	fleetSize = 4
	fleetActs = 90
)

// TestParallel has programs work at the same time, and crashes the vault: of what each has done there is a moment, none
// older than what it was promised.
func TestParallel(t *testing.T) {
	seed := newSeed(t)
	for run := range uint64(*parallelFlag) {
		if err := parallel(t.Context(), seed, run); err != nil {
			t.Fatalf("seed: -crash.seed=%d run %d: %v", seed, run, err)
		}
	}
}

func parallel(ctx context.Context, seed, run uint64) error {
	fl, err := newFleet(ctx, seed, run)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err := fl.work(); err != nil {
		return fmt.Errorf("at work: %w", err)
	}
	log := fl.main.stage.Log()
	v := &verifier{log: log}
	for i := range uint64(3) {
		rng := rand.New(source(seed, run, i, 8))
		p := max(fl.start, v.point(rng))
		if i == 0 {
			p = fl.afterRename(log, rng)
		}
		if hasFailedSync(log, p) { // what that has lost, the cache of the file system would show to who opens
			break
		}
		if err := fl.killed(ctx, log, p, rng); err != nil {
			return fmt.Errorf("kill -9 after log operation %d of %d (%s): %w", p, log.Len(), v.around(p), err)
		}
	}
	for i := range uint64(10) {
		rng := rand.New(source(seed, run, i, 7))
		mode, p := drawMode(rng), max(fl.start, v.point(rng))
		if i < 2 {
			p = log.Len()
		}
		m := log.State(rng, p, mode)
		if err := fl.recovered(ctx, m, p, mode); err != nil {
			return fmt.Errorf("%s after log operation %d of %d (%s): %w\nwhat the crash did:\n%s",
				modeName(mode), p, log.Len(), v.around(p), err, clip(m.Schedule(), 30))
		}
	}
	return nil
}

// afterRename returns a moment at which root was put in its place, and that is not durable.
func (fl *fleet) afterRename(log *memfs.Log, rng *rand.Rand) int {
	at := []int{log.Len()}
	for i := fl.start; i < log.Len(); i++ {
		if log.Op(i).Kind == memfs.OpRename {
			at = append(at, i+1)
		}
	}
	return at[rng.IntN(len(at))]
}

func hasFailedSync(log *memfs.Log, upto int) bool {
	for i := range upto {
		if log.Op(i).Failed {
			return true
		}
	}
	return false
}

func newFleet(ctx context.Context, seed, run uint64) (*fleet, error) {
	c := newClock()
	made := memfs.New()
	if err := initVault(ctx, made, seeded(seed, run, 2), c); err != nil {
		return nil, err
	}
	fl := &fleet{limits: small, rng: rand.New(source(seed, run, 5)), open: make(map[*session]chan []*handle)}
	switch fl.rng.IntN(4) {
	case 0:
		fl.full = true
	case 1:
		fl.sick, fl.limits.Cache = true, 1
	}
	if fl.rng.IntN(2) == 0 {
		fl.limits.Dirty = 4 << 20
	}
	var err error
	if fl.main, err = newSession(ctx, new(opener), made, emptyTree(c), c, fl.limits, seed, run, 3); err != nil {
		return nil, err
	}
	for i := range fleetSize {
		base := fmt.Sprintf("/w%d", i)
		if err := fl.main.mkdir(base); err != nil {
			return nil, err
		}
		s := &session{ctx: ctx, opener: fl.main.opener, stage: fl.main.stage, clock: c, limits: fl.limits, fs: fl.main.fs, store: fl.main.store,
			rnd: fl.main.rnd, rng: rand.New(source(seed, run, uint64(i), 6)), base: base, timeless: true, nextID: 1, onError: fl.judge}
		if fl.full || fl.sick {
			s.refused = fl.refused
		}
		s.tree = &tree{names: map[string]int{"": 0}, inodes: make(map[int]*inode)}
		s.tree.inodes[0] = (&inode{typ: blockcrypt.TypeDirectory, mode: 0o755}).seal()
		s.tree.seal()
		s.hist.shared = true
		s.hist.add(step{what: "what was there", kind: stepOp, tree: s.tree})
		fl.sessions = append(fl.sessions, s)
		fl.open[s] = make(chan []*handle, 1)
	}
	if err := fl.main.syncAll(); err != nil {
		return nil, err
	}
	fl.start = fl.main.at()
	return fl, nil
}

// judge says what an error of an operation means: that the vault has stopped in its midst, or else that it is none that
// may be.
func (fl *fleet) judge(err error) (happened bool, _ error) {
	return fl.hasStopped() && fl.passes(err), err
}

// passes reports whether an error is one of those that faults lead to.
func (fl *fleet) passes(err error) bool {
	return errors.Is(err, fs.ErrStopped) || errors.Is(err, syscall.EIO) || fl.full && errors.Is(err, fs.ErrNoSpace) ||
		fl.sick && errors.Is(err, io.ErrShortWrite) // a block in the midst could not be read
}

// refused reports whether an operation was refused because of a fault that passes.
func (fl *fleet) refused(err error) bool {
	return (fl.full || fl.sick) && fl.passes(err) && !errors.Is(err, fs.ErrStopped) && !fl.hasStopped()
}

func (fl *fleet) hasStopped() bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.stopped
}

// faults returns what fails. Each of the runs has one of the faults that end it, or none.
func (fl *fleet) faults() func(op memfs.Op) error {
	rng := rand.New(rand.NewPCG(fl.rng.Uint64(), 1))
	end, at := fl.rng.IntN(4), 1+fl.rng.IntN(600)
	return func(op memfs.Op) error {
		isExtent := strings.Contains(baseOf(op.Path), ".x")
		switch op.Kind {
		case memfs.OpSync, memfs.OpSyncDir:
			if at--; end == 1 && at <= 0 {
				return fl.stop(syscall.EIO)
			}
		case memfs.OpWrite:
			if !strings.HasPrefix(op.Path, "journal/") {
				break
			}
			if at--; end == 2 && at <= 0 {
				return fl.stop(syscall.EIO)
			}
		case memfs.OpCreate:
			if isFolds(op.Path) && (fl.full || !isExtent) && rng.IntN(60) == 0 {
				return syscall.ENOSPC
			}
		case memfs.OpPreallocate:
			if fl.full && rng.IntN(20) == 0 {
				return syscall.ENOSPC
			}
		case memfs.OpOpen, memfs.OpRead:
			if fl.sick && isTree(op.Path) && rng.IntN(25) == 0 {
				return syscall.EIO
			}
		case memfs.OpRemove:
			if rng.IntN(30) == 0 {
				return syscall.EIO
			}
		}
		return nil
	}
}

// isTree reports whether an object is one of the tree but for extents.
func isTree(path string) bool {
	base := baseOf(path)
	return strings.HasPrefix(path, "dirs/") && strings.Contains(base, ".") || strings.Contains(base, ".h") || strings.Contains(base, ".m")
}

func (fl *fleet) stop(err error) error {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.stopped = true
	return err
}

// work has all sessions work until each has done its share or the vault has stopped.
func (fl *fleet) work() error {
	fl.main.stage.Fail(fl.faults())
	defer fl.main.stage.Fail(nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	errs := make(chan error, 2*fleetSize+1)
	var workers, others sync.WaitGroup
	for _, s := range fl.sessions {
		rng := rand.New(rand.NewPCG(fl.rng.Uint64(), 2))
		workers.Go(func() { errs <- fl.ended(fl.session(ctx, s)) })
		others.Go(func() { errs <- fl.ended(fl.beside(ctx, s, rng)) })
	}
	others.Go(func() { errs <- fl.ended(fl.events(ctx)) })
	workers.Wait()
	cancel()
	others.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	fl.main.stage.Fail(nil)
	if fl.hasStopped() {
		return nil
	}
	for _, s := range fl.sessions {
		if err := s.closeHandles(); err != nil {
			return err
		}
	}
	if err := fl.main.fs.Fold(fl.main.ctx); err != nil {
		return err
	}
	if err := fl.compare(fl.main.ctx, fl.main.fs, func(s *session, got *tree) error {
		if !s.tree.equal(got, nil) {
			return fmt.Errorf("the live tree differs:\n\t%s", strings.Join(s.tree.diff(got, nil), "\n\t"))
		}
		return nil
	}); err != nil {
		return err
	}
	return fl.main.inspect()
}

// ended is err without that of a vault that was made to stop.
func (fl *fleet) ended(err error) error {
	if fl.hasStopped() && fl.passes(err) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// session is what one program does.
func (fl *fleet) session(ctx context.Context, s *session) error {
	for range fleetActs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.act(); err != nil && !fl.refused(err) {
			return fmt.Errorf("%s: %w", s.base, err)
		}
		fl.share(s)
		if s.rng.IntN(2) == 0 {
			if err := fl.readBack(s); err != nil {
				return fmt.Errorf("%s: %w", s.base, err)
			}
		}
	}
	return nil
}

// share lets others use the open files of s, if they are done with those of before.
func (fl *fleet) share(s *session) {
	select {
	case fl.open[s] <- slices.Clone(s.handles):
	default:
	}
}

// readBack compares an open file with what was written to it.
func (fl *fleet) readBack(s *session) error {
	h, ok := pick(s, s.handles)
	if !ok {
		return nil
	}
	want := s.tree.inodes[h.id].data.bytes()
	got := make([]byte, len(want)+1)
	n, err := h.f.ReadAt(s.ctx, got, 0)
	if fl.refused(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read file %d: %w", h.id, err)
	}
	if got = got[:n]; bytes.Equal(got, want) {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("file %d has %d bytes, want %d; the first that differs is %d", h.id, len(got), len(want), at)
}

// beside is what goes on beside a session with its open files: what another program that has them open does.
func (fl *fleet) beside(ctx context.Context, s *session, rng *rand.Rand) error {
	use := func(h *handle) error {
		h.mu.RLock()
		defer h.mu.RUnlock()
		if h.closed {
			return nil
		}
		switch rng.IntN(4) {
		case 0:
			return h.f.Sync(s.ctx)
		case 1:
			_, err := h.f.ReadAt(s.ctx, make([]byte, 1+rng.IntN(30_000)), rng.Int64N(60_000))
			return err
		case 2:
			_, err := h.f.Seek(s.ctx, rng.Int64N(60_000), rng.IntN(2) == 0)
			if errors.Is(err, fs.ErrNoData) {
				return nil
			}
			return err
		}
		return h.f.Flush(s.ctx)
	}
	for {
		var list []*handle
		select {
		case <-ctx.Done():
			return nil
		case list = <-fl.open[s]:
		}
		for range min(len(list), 3) {
			if err := use(list[rng.IntN(len(list))]); err != nil && !fl.refused(err) {
				return fmt.Errorf("beside %s: %w", s.base, err)
			}
		}
	}
}

// events is what befalls the vault as a whole meanwhile.
func (fl *fleet) events(ctx context.Context) error {
	s := fl.main
	rng := rand.New(rand.NewPCG(fl.rng.Uint64(), 3))
	for ctx.Err() == nil {
		var err error
		switch rng.IntN(12) {
		case 0, 1, 2, 3:
			err = fl.forAll("fold", func() error { return s.fs.Fold(s.ctx) })
			if errors.Is(err, fs.ErrNoSpace) && !errors.Is(err, fs.ErrStopped) {
				err = nil
			}
		case 4:
			_, err = s.fs.Rewrite(s.ctx)
		case 5:
			_, _, err = s.fs.Sweep(s.ctx)
		case 6:
			s.clock.advance(25 * time.Hour)
		case 7:
			if rng.IntN(4) == 0 {
				err = s.fs.ChangeKeys(s.ctx, func(old *keystore.Vault) (*keystore.Vault, error) { return old.Rotate(s.rnd, s.clock.Now()) })
			}
		default:
			err = fl.forAll("sync", func() error { return s.fs.Sync(s.ctx) })
		}
		if fl.hasStopped() {
			return nil
		}
		if err != nil && !fl.refused(err) && !failedRemove(err) {
			return err
		}
	}
	return ctx.Err()
}

// failedRemove reports whether an object could not be removed, which the hook does: whoever removes tries again.
func failedRemove(err error) bool {
	return errors.Is(err, syscall.EIO) && !errors.Is(err, fs.ErrStopped)
}

// forAll does what promises all sessions that what they have done is durable.
func (fl *fleet) forAll(what string, run func() error) error {
	begin := fl.main.at()
	covers := make([]int, len(fl.sessions))
	for i, s := range fl.sessions {
		s.histMu.Lock()
		covers[i] = len(s.hist.steps)
		s.histMu.Unlock()
	}
	if err := run(); err != nil || fl.full || fl.sick { // what was refused does not count
		return err
	}
	end := fl.main.at()
	for i, s := range fl.sessions {
		s.histMu.Lock()
		last := s.hist.steps[len(s.hist.steps)-1].tree
		s.hist.add(step{what: what + " by others", kind: stepAll, begin: begin, end: end, covers: covers[i], tree: last})
		s.histMu.Unlock()
	}
	return nil
}

// compare calls look with what each session finds in its directory.
func (fl *fleet) compare(ctx context.Context, f *fs.FS, look func(s *session, got *tree) error) error {
	all, err := dump(ctx, f)
	if err != nil {
		return err
	}
	for id, n := range all.inodes {
		all.inodes[id] = n.edit(func(n *inode) { n.mtime = 0 })
	}
	for _, s := range fl.sessions {
		got := &tree{names: make(map[string]int), inodes: all.inodes}
		for path, id := range all.names {
			if below, ok := strings.CutPrefix(path, s.base); ok {
				got.names[below] = id
			}
		}
		if err := look(s, got.seal()); err != nil {
			return fmt.Errorf("%s: %w", s.base, err)
		}
	}
	return nil
}

// killed opens what a kill -9 has left after p operations, folds and closes, and has the power lost at moments of that:
// until the vault is open, what was promised for a loss of power is there; from then on all that opening has found.
func (fl *fleet) killed(ctx context.Context, log *memfs.Log, p int, rng *rand.Rand) error {
	opts := fs.Options{Clock: fl.main.clock, Limits: fl.limits}
	m := log.Resume(p)
	f, err := fl.main.opener.open(ctx, m, opts)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	open := m.Log().Len()
	trees := make(map[*session]*tree)
	err = fl.compare(ctx, f, func(s *session, got *tree) error {
		trees[s] = got
		_, _, err := s.hist.match(got, p, false)
		return err
	})
	if err != nil {
		return err
	}
	if err := errors.Join(f.Fold(ctx), f.Close(ctx)); err != nil {
		return err
	}
	log = m.Log()
	opts.ReadOnly = true
	for i := range 6 {
		q := p + rng.IntN(open-p+1)
		if i >= 3 {
			q = open + rng.IntN(log.Len()-open+1)
		}
		after := log.State(rng, q, memfs.ModeRandom)
		fail := func(err error) error {
			return fmt.Errorf("power loss %d operations into opening, which takes %d: %w\nwhat the crash did:\n%s", q-p, open-p, err, clip(after.Schedule(), 30))
		}
		f, err := fl.main.opener.open(ctx, after, opts)
		if err != nil {
			return fail(err)
		}
		err = fl.compare(ctx, f, func(s *session, got *tree) error {
			if q >= open && !trees[s].equal(got, nil) {
				return fmt.Errorf("differs from what opening has found:\n\t%s", strings.Join(trees[s].diff(got, nil), "\n\t"))
			}
			_, _, err := s.hist.match(got, p, true)
			return err
		})
		if err = errors.Join(err, f.Close(ctx)); err != nil {
			return fail(err)
		}
	}
	return nil
}

// recovered opens what a crash has left, and checks what is there: each session's directory as it was at some moment,
// and the same when it is opened again, written to, folded and closed.
func (fl *fleet) recovered(ctx context.Context, m *memfs.FS, p int, mode memfs.Mode) error {
	power := mode&^memfs.NamesOnSync != memfs.ModePrefix
	opts := fs.Options{ReadOnly: true, Clock: fl.main.clock, Limits: fl.limits}
	f, err := fl.main.opener.open(ctx, m, opts)
	if err != nil {
		return fmt.Errorf("open to read: %w", err)
	}
	trees := make(map[*session]*tree)
	err = fl.compare(ctx, f, func(s *session, got *tree) error {
		trees[s] = got
		_, _, err := s.hist.match(got, p, power)
		return err
	})
	if err = errors.Join(err, f.Close(ctx)); err != nil {
		return err
	}
	opts.ReadOnly = false
	same := func(s *session, got *tree) error {
		if !trees[s].equal(got, nil) {
			return fmt.Errorf("differs from what was there:\n\t%s", strings.Join(trees[s].diff(got, nil), "\n\t"))
		}
		return nil
	}
	check := func(when string) error {
		if err := fl.compare(ctx, f, same); err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		var found []string
		_, err := f.Check(ctx, fs.CheckOptions{}, func(fd fs.Finding) { found = append(found, fmt.Sprintf("%+v", fd)) })
		if err != nil || len(found) > 0 {
			return fmt.Errorf("%s: check finds damage: %v\n\t%s", when, err, strings.Join(found, "\n\t"))
		}
		return nil
	}
	if f, err = fl.main.opener.open(ctx, m, opts); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := check("opened to write"); err != nil {
		return err
	}
	if err := f.Fold(ctx); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	if err := check("folded"); err != nil {
		return err
	}
	if err := f.Close(ctx); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if f, err = fl.main.opener.open(ctx, m, opts); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	if _, _, err := f.Sweep(ctx); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return errors.Join(check("opened again"), f.Close(ctx))
}
