package fs

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"envfs/blockcrypt"
)

// RewrapResult is what Rewrap has done.
type RewrapResult struct {
	Files   int64  `json:"files"`   // whose data keys were wrapped anew
	Epoch   uint32 `json:"epoch"`   // under which all is sealed now
	Damaged int64  `json:"damaged"` // files and directories that are damaged, and stay as they were
}

// Rewrap wraps all data keys under the newest key epoch, and seals anew what older ones have sealed of the tree, until
// nothing of the tree is under an older one. It reads and writes headers and indexes, never content that is not in a
// header. It works beside all other use of the vault, in folds of some thousand files, each a commit: one that was
// broken off is gone on with by the next. progress, which may be nil, is told of files.
func (f *FS) Rewrap(ctx context.Context, progress func(done, total int64)) (RewrapResult, error) {
	r := &rewrapper{f: f, progress: progress}
	work, done, err := f.works.begin(ctx)
	if err == nil {
		defer done()
		err = because(work, r.run(work))
	}
	if err != nil {
		err = fmt.Errorf("rewrap: %w", err)
	}
	r.res.Damaged += int64(r.harm.count())
	return r.res, err
}

// maxAgain bounds the rounds in which nothing but unreadable directories is found.
const maxAgain = 3

type rewrapper struct {
	f        *FS
	progress func(done, total int64)
	res      RewrapResult
	total    int64
	since    uint64
	harm     harmed

	// Of this round through the tree.
	unseen int64 // directories and maps that could not be read, as they are damaged or superseded
	found  bool  // something old
	next   *renewable
	folds  chan *renewable // one is gathered while another is folded
}

// renewable is what one fold is to renew.
type renewable struct {
	dirs  map[blockcrypt.ID]bool
	files map[blockcrypt.ID]bool // whose pages are old, but not their headers
	count int                    // of files
}

func newRenewable() *renewable {
	return &renewable{dirs: make(map[blockcrypt.ID]bool), files: make(map[blockcrypt.ID]bool)}
}

func (r *rewrapper) run(ctx context.Context) error {
	f := r.f
	if err := f.Fold(ctx); err != nil { // what waits is folded under the newest epoch anyway
		return err
	}
	use, err := f.keyUse(ctx)
	if err != nil {
		return err
	}
	for i := range use.Tree {
		if use.Tree[i].Epoch != use.Newest {
			r.total += use.Tree[i].Headers
		}
	}
	for {
		newest := f.newestEpoch()
		r.since, r.res.Epoch = newest.Fold, newest.Epoch
		if err := r.rounds(ctx); err != nil {
			return err
		}
		if f.newestEpoch().Epoch == newest.Epoch {
			r.res.Damaged += r.unseen
			return nil
		}
		// The keys were changed under way: what was done before is old again.
	}
}

// newestEpoch tells which key epoch is the newest, and when it began.
func (f *FS) newestEpoch() blockcrypt.EpochStart {
	starts := f.rootNow().Epochs
	return starts[len(starts)-1]
}

// rounds goes through the tree until nothing old is found.
func (r *rewrapper) rounds(ctx context.Context) error {
	f := r.f
	for again := 0; ; again++ {
		before := f.folds.Load()
		skipped, err := r.round(ctx)
		if err != nil {
			return err
		}
		if r.found {
			again = 0
			continue
		}
		// What could not be read is looked for again if a fold may have superseded it under way.
		if r.unseen += skipped; r.unseen == 0 || f.folds.Load() == before || again == maxAgain {
			return nil
		}
	}
}

// round goes through the tree once, and has what is old renewed meanwhile. It returns how many directories it could not read.
func (r *rewrapper) round(ctx context.Context) (skipped int64, err error) {
	r.found, r.unseen = false, 0
	r.next, r.folds = newRenewable(), make(chan *renewable)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for n := range r.folds {
			if err := r.renew(ctx, n); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() (err error) {
		defer close(r.folds)
		if skipped, err = r.f.eachDir(ctx, func(d *dirVisit) error { return r.visit(ctx, d) }); err != nil {
			return err
		}
		return r.hand(ctx)
	})
	err = g.Wait()
	return skipped, err
}

// visit adds a directory to those that the next fold renews if anything in it is old.
func (r *rewrapper) visit(ctx context.Context, d *dirVisit) error {
	old := d.entry.Head.Version.Birth < r.since
	for _, s := range d.index.Shards {
		old = old || s.Ref.Ver.Birth < r.since
	}
	n := 0
	for i := range d.entries {
		e := &d.entries[i]
		if e.Type != blockcrypt.TypeRegular || e.Head.IsZero() || r.harm.has(e.ID) {
			continue
		}
		if e.Head.Version.Birth >= r.since {
			paged := false
			err := r.f.eachPage(ctx, e, func(ref blockcrypt.PageRef) { paged = paged || ref.Ver.Birth < r.since })
			if harms(err) {
				r.unseen++
				continue
			}
			if err != nil {
				return err
			}
			if !paged {
				continue
			}
			r.next.files[e.ID] = true
		}
		n++
	}
	if n == 0 && !old || r.harm.has(d.entry.ID) {
		return nil
	}
	r.found = true
	r.next.dirs[d.entry.ID] = true
	for _, id := range d.above {
		r.next.dirs[id] = true
	}
	if r.next.count += n; r.next.count < r.f.opts.Limits.Renew {
		return nil
	}
	return r.hand(ctx)
}

// hand has what was gathered renewed.
func (r *rewrapper) hand(ctx context.Context) error {
	select {
	case r.folds <- r.next:
		r.next = newRenewable()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// renew has folds renew what was gathered.
func (r *rewrapper) renew(ctx context.Context, next *renewable) error {
	for len(next.dirs) > 0 {
		n := &renewal{since: r.since, dirs: next.dirs, files: next.files, room: r.f.opts.Limits.Renew, harm: &r.harm}
		if err := r.f.foldRenewing(ctx, n); err != nil {
			return err
		}
		r.res.Files += int64(n.done)
		if r.progress != nil {
			r.progress(r.res.Files, max(r.total, r.res.Files))
		}
		if n.room > 0 {
			break
		}
	}
	return nil
}

// foldRenewing folds, and renews.
func (f *FS) foldRenewing(ctx context.Context, n *renewal) error {
	f.foldMu.Lock()
	defer f.foldMu.Unlock()
	return f.foldAnd(ctx, false, n)
}
