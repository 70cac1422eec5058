package dir

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"envfs/remote"
)

const (
	// manyFiles is the number of unsynced files from which on one syncfs is cheaper than an fdatasync of each.
	manyFiles = 64

	// heldFiles bounds the descriptors of unsynced files where there is no syncfs.
	heldFiles = 256
)

// pending is what is not durable yet. Files are kept open until they are synced, so that no failed write goes
// unreported; with many of them the file system is synced as a whole, which reports these too.
type pending struct {
	fs FS

	mu      sync.Mutex
	unsync  unsynced
	waiting *round // has not begun: what is Put before it begins is in it
	err     error  // of a failed sync: what it lost is lost, so it stays
	syncFS  bool   // syncfs is to be relied on

	running sync.Mutex // held by the round at work
}

type unsynced struct {
	files []File
	dirs  map[string]struct{} // gained a name
	whole bool                // files that are closed already wait for syncfs
}

type round struct {
	done chan struct{}
	err  error
}

func newPending(fs FS) *pending {
	return &pending{fs: fs, syncFS: fs.CanSyncFS(), unsync: unsynced{dirs: make(map[string]struct{})}}
}

// addDir notes that dir gained a name.
func (p *pending) addDir(dir string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsync.dirs[dir] = struct{}{}
}

// addFile takes over a file whose content is to be durable after the next sync.
func (p *pending) addFile(f File) error {
	p.mu.Lock()
	u := &p.unsync
	var closing []File
	switch {
	case p.syncFS && (u.whole || len(u.files) >= manyFiles):
		u.whole = true
		closing, u.files = append(u.files, f), nil
	case len(u.files) >= heldFiles:
		p.mu.Unlock()
		return p.stick(errors.Join(f.Datasync(), f.Close()))
	default:
		u.files = append(u.files, f)
	}
	p.mu.Unlock()
	return closeAll(closing)
}

func closeAll(files []File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// noSyncFS has every file synced by itself from now on.
func (p *pending) noSyncFS() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.syncFS = false
}

// stick keeps the first error of a sync for all later ones.
func (p *pending) stick(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	return err
}

// failed returns the error of the sync that failed, if one has.
func (p *pending) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// syncDir makes one directory's names durable at once.
func (p *pending) syncDir(dir string) error { return p.stick(p.fs.SyncDir(dir)) }

// Sync implements remote.Store. Concurrent calls share the work. Once it has failed it always fails, as what could not
// be written may be lost for good.
func (s *Store) Sync(ctx context.Context) error {
	return fail("sync", s.location, s.pending.sync(ctx), true)
}

func (p *pending) sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	r := p.waiting
	if r == nil {
		r = &round{done: make(chan struct{})}
		p.waiting = r
		go p.lead(r)
	}
	p.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lead carries out a round once the one before it is done.
func (p *pending) lead(r *round) {
	p.running.Lock()
	defer p.running.Unlock()
	defer close(r.done)

	p.mu.Lock()
	p.waiting = nil
	work := p.unsync
	p.unsync = unsynced{dirs: make(map[string]struct{})}
	r.err = p.err
	p.mu.Unlock()

	if r.err != nil {
		_ = closeAll(work.files) // nothing is promised of them any more
		return
	}
	r.err = p.stick(p.run(work))
}

func (p *pending) run(work unsynced) error {
	g := newGroup()
	for _, f := range work.files {
		g.Go(func() error { return errors.Join(f.Datasync(), f.Close()) })
	}
	if work.whole {
		g.Go(p.fs.SyncFS)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return syncDirs(p.fs, work.dirs)
}

func syncDirs(fs FS, dirs map[string]struct{}) error {
	g := newGroup()
	for dir := range dirs {
		g.Go(func() error { return fs.SyncDir(dir) })
	}
	return g.Wait()
}

func newGroup() *errgroup.Group {
	g := new(errgroup.Group)
	g.SetLimit(parallel)
	return g
}

// close releases what was not synced.
func (p *pending) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = closeAll(p.unsync.files) // not synced, so nothing is promised
	p.unsync.files = nil
	if p.err == nil {
		p.err = errClosed
	}
}

// Settle implements remote.Local. The directories of names that do not exist are made durable too.
func (s *Store) Settle(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := remote.CheckReadName(name); err != nil {
			return fail("settle", name, err, false)
		}
	}
	dirs := map[string]struct{}{"": {}}
	for _, name := range names {
		for dir := parentOf(name); dir != ""; dir = parentOf(dir) {
			dirs[dir] = struct{}{}
		}
	}
	g := newGroup()
	for _, name := range names {
		g.Go(func() error { return fail("settle", name, s.settle(ctx, name), true) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	g = newGroup()
	for dir := range dirs {
		g.Go(func() error {
			err := s.fs.SyncDir(dir)
			if dir != "" && errors.Is(err, syscall.ENOENT) {
				return nil
			}
			return fail("settle directory", dir, err, true)
		})
	}
	return g.Wait()
}

func (s *Store) settle(ctx context.Context, name string) error {
	f, err := s.openObject(ctx, name)
	if err != nil {
		return ignoreMissing(err)
	}
	defer f.Close() // read-only
	if err := f.Sync(); err != nil {
		return err
	}
	return f.DropCache()
}
