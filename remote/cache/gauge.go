package cache

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"envfs/remote"
	"envfs/remote/dir"
)

// gauge knows how much lies in the state, and has those wait who would add to it beyond its bound.
type gauge struct {
	state *dir.Store
	limit int64
	wait  time.Duration
	away  func() bool
	log   *slog.Logger
	kept  *kept        // counts, too
	sent  atomic.Int64 // bytes that were published since Open
	fails atomic.Bool  // the last attempt to publish has failed, although the shared store may be there

	mu      sync.Mutex
	sizes   map[string]int64 // of the objects
	used    int64
	less    chan struct{} // closed and made anew when used falls
	waiting int           // who waits for that
	since   time.Time     // when the first of them began to
	space   remote.Space
	looked  time.Time // at space
}

const (
	// spareDisk is what writers leave free on the state's disk, at most a sixteenth of it: for folds, and for others.
	spareDisk = 256 << 20

	// wellAbove is how much there must be to publish for a full disk to be waited for: publishing gives it back.
	wellAbove = 4 << 20

	lookEvery = 200 * time.Millisecond

	// keptShare is the part of the bound that what is kept may take from what waits: folds see to it that it is less.
	keptShare = 2

	// muchKept is the part of the bound from which on what is kept is much.
	muchKept = 8
)

func newGauge(state *dir.Store, kept *kept, o Options) (*gauge, error) {
	g := &gauge{state: state, kept: kept, limit: o.StateSize, wait: o.Wait, away: o.Away, log: o.Log, sizes: make(map[string]int64), less: make(chan struct{})}
	if g.away == nil {
		g.away = func() bool { return false }
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	ctx := context.Background()
	err := state.List(ctx, "", func(i remote.Info) error {
		if grows(i.Name) {
			g.add(i.Name, i.Size)
		}
		return nil
	})
	if err != nil || g.limit != 0 {
		return g, err
	}
	space, err := state.Space(ctx)
	g.limit = max(MinStateSize, min(DefaultStateSize, g.used+int64(min(space.Available/2, 1<<60))))
	return g, err
}

func (g *gauge) add(name string, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sizes[name] += n
	g.used += n
}

// gone notes that objects are not in the state any more.
func (g *gauge) gone(names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range names {
		g.used -= g.sizes[name]
		delete(g.sizes, name)
	}
	close(g.less)
	g.less = make(chan struct{})
}

// gauged is a file in the state.
type gauged struct {
	remote.File
	name  string
	gauge *gauge
}

// Append implements remote.File.
func (f *gauged) Append(p []byte) error {
	err := f.File.Append(p)
	if err == nil {
		f.gauge.add(f.name, int64(len(p)))
	}
	return err
}

// look looks how much the disk has left, if that is not known well enough. An error is met by whoever writes.
func (g *gauge) look(ctx context.Context) {
	g.mu.Lock()
	now := time.Now()
	due := g.used >= wellAbove && now.Sub(g.looked) >= lookEvery
	if due {
		g.looked = now
	}
	g.mu.Unlock()
	if !due {
		return
	}
	space, err := g.state.Space(ctx)
	if err != nil {
		space = remote.Space{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.space = space
}

// full reports whether n bytes more are too much, by the bound or by what the disk has left, and returns what tells that
// it is worth asking again. What is kept is no reason to wait by itself, as publishing makes it no less. g.mu is held.
func (g *gauge) full(n int64) (full bool, less <-chan struct{}) {
	if g.used+min(g.kept.bytes(), g.limit/keptShare)+n > g.limit && g.used > 0 {
		return true, g.less
	}
	return g.used >= wellAbove && g.space.Available < min(spareDisk, g.space.Total/16), g.less
}

// Admit implements remote.Bounded.
func (s *Store) Admit(ctx context.Context, n int64) error {
	g := s.gauge
	g.look(ctx)
	g.mu.Lock()
	full, less := g.full(n)
	if !full {
		g.mu.Unlock()
		return nil
	}
	g.waiting++
	if g.waiting == 1 {
		g.since = time.Now()
		g.log.Warn("writes wait: the state directory holds what it may, until some of it is published", "bytes", g.used, "bound", g.limit)
	}
	g.mu.Unlock()
	err := g.admit(ctx, n, less)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if g.waiting == 0 {
		g.log.Info("no write waits for the state directory any more", "waited", time.Since(g.since).Round(time.Second).String())
		g.since = time.Time{}
	}
	return err
}

func (g *gauge) admit(ctx context.Context, n int64, less <-chan struct{}) error {
	p := g.patience()
	defer p.stop()
	for full := true; full; {
		select {
		case <-less:
		case <-p.tick(): // the disk may have space again by what others do
			if p.over() {
				return fmt.Errorf("%w in the state directory: nothing could be published for %v", remote.ErrNoSpace, g.wait)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		g.look(ctx)
		g.mu.Lock()
		full, less = g.full(n)
		g.mu.Unlock()
	}
	return nil
}

// Await implements remote.Bounded.
func (s *Store) Await(ctx context.Context, work <-chan error) error {
	p := s.gauge.patience()
	defer p.stop()
	for {
		select {
		case err := <-work:
			return err
		case <-p.tick():
			if p.over() {
				return fmt.Errorf("%w: what waits here has to be published first, and could not for %v", remote.ErrNoSpace, s.gauge.wait)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// patience is that of one who waits. It lasts while the shared store is there and takes what is published, however slow it
// is.
type patience struct {
	g      *gauge
	ticker *time.Ticker
	last   time.Time // that it was there
}

func (g *gauge) patience() *patience {
	return &patience{g, time.NewTicker(lookEvery), time.Now()}
}

func (p *patience) tick() <-chan time.Time { return p.ticker.C }
func (p *patience) stop()                  { p.ticker.Stop() }

func (p *patience) over() bool {
	if !p.g.away() && !p.g.fails.Load() {
		p.last = time.Now()
	}
	return p.g.wait > 0 && time.Since(p.last) >= p.g.wait
}

// Usage is how much lies on this machine. Sizes are in bytes.
type Usage struct {
	State, StateBound int64 // State: what waits, and what is kept
	Sent              int64 // published since Open
	Cache, CacheBound int64
	Writers           int       // who wait for room in the state
	WaitSince         time.Time // since when; zero: nobody does
}

// Usage returns how much lies on this machine.
func (s *Store) Usage() Usage {
	g, p := s.gauge, s.pages
	p.mu.Lock()
	u := Usage{Cache: p.total, CacheBound: p.limit}
	p.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	u.State, u.StateBound, u.Sent, u.Writers, u.WaitSince = g.used+g.kept.bytes(), g.limit, g.sent.Load(), g.waiting, g.since
	return u
}
