package fs

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// A follower reads what somebody else writes. It looks at root again and again; what that names and what it has read so
// far decide what is to be done:
//
//	the same tree, a longer journal -> the new batches are laid over what is there, all at once
//	anything else                   -> the moment is opened beside the one that is shown, and takes its place
//
// Both happen under FS.mu in one step, so that whatever is asked is answered by one moment or the other. A follower never
// shows what root does not name: that may not become a part of the vault.
//
// What the kernel keeps: names and attributes it asks for each time. The pages of a file it keeps as long as the file is
// the same: after a change it is told to drop them (Follow), and until it has, whoever opens the file has it drop them, too
// (File.Unchanged). Pages that a read from before the change is about to fill are locked, and dropping waits for them. So
// who opens one file and then another never sees an older moment in the second.

// Intervals at which a follower looks at root: while that changes, and after it has not for followIdle.
const (
	followEvery  = time.Second
	followSlowly = 3 * time.Second
	followIdle   = 5 * time.Minute
)

// follower is what a mount needs that follows another's work.
type follower struct {
	mu       sync.Mutex // one step at a time; comes before FS.mu
	end      journal.Pos
	replayer *replayer
	live     bool // it is a mount's, no moment that is opened beside one

	// Guarded by FS.mu.
	changed []*Inode // files whose pages the kernel may keep although they are not true any more
	looked  time.Time
	failed  error // why what was published is not shown

	wake chan struct{}
}

func newFollower(now time.Time) *follower {
	return &follower{looked: now, wake: make(chan struct{}, 1)}
}

// stamp tells one content of a file from another: whatever changes the content sets the times.
type stamp struct {
	size         uint64
	mtime, ctime blockcrypt.Time
}

func stampOf(e *blockcrypt.Entry) stamp { return stamp{e.Attr.Size, e.Attr.Mtime, e.Attr.Ctime} }

// seenContent is which content of a file the kernel may have pages of.
type seenContent struct {
	opened bool
	stale  bool // it may have pages of another content than the stamp's
	queued bool // in follower.changed
	stamp  stamp
}

// openSeen notes that a file with entry e is opened, and reports whether the kernel may have pages of an older content. FS.mu
// is held.
func (f *FS) openSeen(ino *Inode, e *blockcrypt.Entry) (stale bool) {
	if !ino.seen.opened {
		ino.seen = seenContent{opened: true, stamp: stampOf(e)}
	}
	f.renew(ino, e)
	return ino.seen.stale
}

// Follow keeps the mount up with what is published, until ctx ends; only for what was opened with Options.Follow. dropped
// is called with files of which the kernel may keep pages that are not true any more, after they have changed, with no
// lock held: it may wait for reads of them. When it returns the kernel has none of these pages.
func (f *FS) Follow(ctx context.Context, dropped func([]*Inode)) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	last := f.clock.Now() // when root was last seen to change
	looked := last
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.follower.wake:
		case <-tick.C:
		}
		now := f.clock.Now()
		if now.Sub(last) < followIdle || now.Sub(looked) >= followSlowly {
			looked = now
			moved, err := f.CatchUp(ctx)
			if moved {
				last = now
			}
			if ctx.Err() != nil {
				return
			}
			told = f.tellFollowing(err, told)
		}
		if changed := f.takeChanged(); len(changed) > 0 {
			dropped(changed)
			f.noteDropped(changed)
		}
	}
}

// tellFollowing logs that following has begun to fail or to work again, and returns what is known now.
func (f *FS) tellFollowing(err error, told string) string {
	f.mu.Lock()
	f.follower.failed = err
	f.mu.Unlock()
	switch {
	case err != nil && err.Error() != told:
		f.logger.Warn("what was published since is not shown; it will be tried again", "cause", err)
		return err.Error()
	case err == nil && told != "":
		f.logger.Info("what is published is shown again")
	}
	if err == nil {
		return ""
	}
	return told
}

func (f *FS) takeChanged() []*Inode {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := f.follower.changed
	f.follower.changed = nil
	for _, ino := range changed {
		ino.seen.queued = false
	}
	return changed
}

// noteDropped notes that the kernel has no pages of what files held before they were taken as changed.
func (f *FS) noteDropped(files []*Inode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ino := range files {
		if !ino.seen.queued { // else it has changed again
			ino.seen.stale = false
		}
	}
}

// caughtUp reports whether what is shown is another moment now: an object was missing that the one before needed.
//
// Not while a step is at work already, which starts over if it misses something: that one would wait for itself.
func (f *FS) caughtUp(ctx context.Context) bool {
	if f.follower == nil || !f.follower.live || ctx.Value(stepping{}) != nil {
		return false
	}
	before := f.rootNow()
	moved, err := f.CatchUp(ctx)
	if moved {
		select {
		case f.follower.wake <- struct{}{}:
		default:
		}
	}
	return err == nil && (moved || f.rootNow() != before)
}

// openFollower opens a vault to follow it. What the root named that was found first may be gone because there is a newer one.
func openFollower(ctx context.Context, o Options) (*FS, error) {
	for try := 1; ; try++ {
		f := newFS(o)
		f.since = o.Clock.Now()
		f.follower = newFollower(f.since)
		f.keys.Store(o.Keys)
		f.vault = vaultOf(o.Keys.File())
		err := f.open(ctx)
		if err == nil {
			f.follower.live = true
			return f, nil
		}
		again, gerr := f.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
		if gerr != nil || try == catchUpTries || !newer(again, f.rootData) {
			return nil, err
		}
	}
}

// stepping marks the context of a step of a follower.
type stepping struct{}

// CatchUp shows what root names by now, and reports whether that is another moment than before.
func (f *FS) CatchUp(ctx context.Context) (moved bool, err error) {
	fl := f.follower
	fl.mu.Lock()
	defer fl.mu.Unlock()
	ctx = context.WithValue(ctx, stepping{}, true)
	for try := 1; ; try++ {
		began := f.clock.Now()
		data, err := f.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
		if err != nil {
			return false, fmt.Errorf("read root: %w", err)
		}
		same := bytes.Equal(data, f.rootData)
		if !same {
			err = f.moveTo(ctx, data)
		}
		if err == nil {
			f.mu.Lock()
			fl.looked = began
			f.mu.Unlock()
			return !same, nil
		}
		// What the root named may be gone because there is a newer one.
		again, gerr := f.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
		if gerr != nil || try == catchUpTries || !newer(again, data) {
			return false, err
		}
	}
}

// catchUpTries is how often in a row a root is overtaken by the next one before that is for the next look.
const catchUpTries = 3

// newer reports whether one root says that it comes after another.
func newer(a, b []byte) bool {
	p, err := blockcrypt.ParseRootPrefix(a)
	q, qerr := blockcrypt.ParseRootPrefix(b)
	return err == nil && qerr == nil && p.Seq > q.Seq
}

// moveTo shows what a root names.
func (f *FS) moveTo(ctx context.Context, data []byte) error {
	if p, err := blockcrypt.ParseRootPrefix(data); err == nil && p.Epoch > f.keyring().Newest() {
		return errNewKeys
	}
	root, err := f.openRoot(data)
	if err != nil {
		return err
	}
	if err := f.continues(root); err != nil {
		return err
	}
	rp := f.follower.replayer
	if root.Fold == f.root.Fold && root.Cut == f.root.Cut && root.CutHash == f.root.CutHash && root.Epoch == f.root.Epoch && !rp.blind && f.older == "" {
		batches, end, err := f.newBatches(ctx, root)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(batches, func(b laidBatch) bool { return rp.early(b.deltas) }) || !f.allPlaced(batches) {
			return f.reopen(ctx)
		}
		f.layOver(root, data, batches)
		f.follower.end = end
		return nil
	}
	return f.reopen(ctx)
}

// continues makes sure that a root continues the one that is shown.
func (f *FS) continues(root *blockcrypt.Root) error {
	now, next := &foundRoot{root: f.root}, &foundRoot{root: root}
	switch {
	case covers(next, now) && root.Seq >= f.root.Seq:
		return nil
	case covers(now, next):
		return fmt.Errorf("%w: root is of %s, older than what was shown, of %s", ErrSetBack, next.moment(), now.moment())
	}
	return fmt.Errorf("%w: root is of %s and does not continue what was shown, of %s", ErrFork, next.moment(), now.moment())
}
