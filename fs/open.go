package fs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"

	"envfs/blockcrypt"
	"envfs/remote"
)

// Open opens a vault. To write, it takes the store's lock, makes sure that what it stands on is on the disk, and begins
// a term.
func Open(ctx context.Context, o Options) (*FS, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.RootName != "" || o.Follow {
		o.ReadOnly = true
	}
	if o.Follow {
		return openFollower(ctx, o)
	}
	f := newFS(o)
	f.since = o.Clock.Now()
	f.keys.Store(o.Keys)
	f.vault = vaultOf(o.Keys.File())
	if !o.ReadOnly {
		local, ok := o.Store.(remote.Local)
		if shared, is := o.Store.(remote.Shared); is {
			local, ok = shared.Local(), true
			f.shared = shared
			f.mine.extents, f.mine.segments = make(map[string]uint64), make(map[string]bool)
		}
		if !ok {
			return nil, fmt.Errorf("open %s for writing: %w", o.Store.Location(), ErrReadOnly)
		}
		if err := local.Lock(); err != nil {
			if errors.Is(err, remote.ErrInUse) {
				err = fmt.Errorf("%w: %w", ErrInUse, err)
			}
			return nil, err
		}
		f.local = local
	}
	if err := f.open(ctx); err != nil {
		return nil, f.unlessMoved(ctx, err)
	}
	return f, nil
}

// unlessMoved returns why opening has failed. If root of a shared store has been replaced since, what looked like harm may
// be half of what another machine was doing.
func (f *FS) unlessMoved(ctx context.Context, err error) error {
	_, shared := f.opts.Store.(remote.Shared)
	says := func(what error) bool { return errors.Is(err, what) }
	if !shared || f.rootData == nil || f.opts.RootName != "" || !slices.ContainsFunc([]error{ErrDamaged, ErrIncomplete, ErrFork, ErrSetBack}, says) {
		return err
	}
	if now, rerr := readRoot(ctx, f.opts.Store, ""); rerr != nil || bytes.Equal(now, f.rootData) {
		return err
	}
	f.logger.Info("another machine has replaced root meanwhile", "cause", err)
	return errBeaten
}

func (f *FS) open(ctx context.Context) error {
	sv, err := f.look(ctx)
	if err != nil {
		return err
	}
	root := sv.chosen.root
	f.rootData = sv.disk
	if err := f.checkPin(root, sv.chosen.data); err != nil {
		return err
	}
	f.adopt(root)
	f.nextFold = afterFold(root, max(root.LastFold, sv.fold))
	rec, err := f.loadFold(ctx, root.Fold)
	if err != nil {
		if !sv.same && errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: %w", ErrIncomplete, err)
		}
		if !f.readOnly || !errors.Is(err, ErrDamaged) {
			return err
		}
		_ = f.report(fmt.Errorf("nothing can be written: %w", err)) // reading the tree does not need the last fold's record
	} else {
		f.runs = rec.Runs
	}
	state, err := f.replay(ctx, rec, sv)
	if err != nil {
		return f.overtakenBefore(ctx, err)
	}
	f.replayed = state.result
	f.countBirths(root)
	if err := f.checkDurable(state.result.End.Number); err != nil {
		return err
	}
	if sv.forked {
		f.logger.Warn("this is one side of a fork, read-only", "cause", sv.forkError())
	}
	if f.readOnly {
		return nil
	}
	if err := f.dig(ctx, rec); err != nil {
		if !sv.same && errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: %w", ErrIncomplete, err)
		}
		return err
	}
	if err := f.beginTerm(ctx, sv, state); err != nil {
		return err
	}
	if err := f.purgeNameless(ctx); isFull(err) {
		f.logger.Warn("files without a name stay for want of space; the next mount removes them", "cause", err)
	} else if harms(err) {
		f.logger.Warn("files without a name stay, as something that they need is damaged", "cause", err)
	} else if err != nil {
		return err
	}
	f.mendKeyCopy(ctx)
	f.swept = sv.clean()
	f.foldMu.Lock()
	f.holdBack(ctx)
	f.foldMu.Unlock()
	f.foldMany(ctx, state.result.Live)
	f.start()
	return nil
}

// countBirths has the next fold come late enough for what the journal names. If a crash ended a fold, what was made beside it
// is born for the one after that; a fold of an earlier number would name what is not born yet, and once merged with others
// the death of such an extent would be told, but not its birth.
func (f *FS) countBirths(root *blockcrypt.Root) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fd := range f.active.files {
		for i := range fd.exts {
			raise(&f.nextFold, fd.exts[i].Ver.Birth, root.LastFold)
		}
	}
}

// foldMany folds if the journal holds segments of so many terms that root could soon forget one of them: after as many
// crashes, none of which a fold came between.
func (f *FS) foldMany(ctx context.Context, live []blockcrypt.SegmentRef) {
	terms := make(map[uint64]bool)
	for _, s := range live {
		if n, err := blockcrypt.ParseName(s.Name); err == nil {
			terms[n.Term] = true
		}
	}
	if len(terms) < maxTerms/2 {
		return
	}
	if err := f.fold(ctx, false); err != nil {
		f.logger.Warn("fold failed; the journal holds all, it will be tried again", "cause", err)
	}
}

// start begins what happens by itself.
func (f *FS) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.stopLoop = cancel
	if f.opts.Manual {
		return
	}
	f.loopDone.Go(func() { f.loop(ctx) })
	f.loopDone.Go(func() { f.foldLoop(ctx) })
	if f.shared != nil {
		f.loopDone.Go(func() { f.publishLoop(ctx) })
	}
}

// beginTerm writes a root with a term of this mount, and begins the journal where replaying ended.
func (f *FS) beginTerm(ctx context.Context, sv *survey, s *replayed) error {
	f.rootMu.Lock()
	defer f.rootMu.Unlock()
	var last blockcrypt.Term
	for _, t := range f.root.Terms {
		if !t.Closed && (t.Host != f.opts.Host || t.StateID != f.opts.StateID) && !f.opts.Takeover {
			return &OtherWriterError{User: t.User, Host: t.Host, Since: goTime(t.Began), LastCommit: goTime(f.root.Time)}
		}
		if t.Number > last.Number {
			last = t
		}
	}
	known := last.Number
	for term := range s.result.NextSeq {
		raise(&last.Number, term, known)
	}
	f.term = blockcrypt.Term{Number: last.Number + 1, Slot: f.keyring().OpenedBy().ID, Host: f.opts.Host, User: f.opts.User, StateID: f.opts.StateID,
		Began: f.now(), LastBatch: s.result.End.Number, LastHash: s.result.End.Hash,
		LastFold: f.nextFold - 1} // so that what its first fold leaves, if a crash ends that, is known by its number
	if _, err := io.ReadFull(f.rand, f.term.Tag[:]); err != nil {
		return fmt.Errorf("draw a tag: %w", err)
	}
	if err := f.settleRoot(ctx, sv); err != nil {
		return err
	}
	kept, err := f.keepBoth(ctx, sv)
	if err != nil {
		return err
	}
	if err := f.setAside(ctx, s.result, sv); err != nil {
		return err
	}
	if err := f.findUnpublished(ctx, s.result.Live); err != nil {
		return err
	}
	extents := maps.Clone(f.mine.extents)
	if err := f.send(ctx, s.result.Live, extents); err != nil {
		return err
	}
	f.durable.Store(s.result.End.Number) // replaying made real all that it stands on
	err = f.putRoot(ctx, kept, false, func(r *blockcrypt.Root) {
		nameSegments(r, s.result.Live) // replaying has made them durable
		r.Seq = max(r.Seq, sv.seq+1)
		r.KeyFile = sv.own.root.KeyFile // that which the keys in use come from
		end := func(t *blockcrypt.Term) {
			t.Closed, t.LastBatch, t.LastHash = true, s.result.End.Number, s.result.End.Hash
		}
		for i := range r.Terms {
			t := &r.Terms[i]
			if !t.Closed && sv.beyond {
				giveUp(t, sv.chosen.root.Seq) // of that, nothing tells what is an orphan
			}
			if !t.Closed || t.LastBatch > s.result.End.Number { // what is gone on without does not count later either
				end(t)
			}
		}
		sv.adoptTerms(r, end)
		sv.adoptSegments(r, s.result, end)
		currentTerm(r, f.term)
	})
	if f.shared != nil && errors.Is(err, ErrOvertaken) {
		return errBeaten // as no root has named this term yet
	}
	if err != nil {
		return err
	}
	f.sent(ctx, s.result.Live, extents)
	f.keepSegments(ctx, s.result.Live)
	if err := f.dropUnnamed(ctx, s.result.Live); err != nil {
		f.logger.Warn("segments that were sent and never named stay; the next mount deletes them", "cause", err)
	}
	f.mine.batch = s.result.End.Number
	if err := f.dropAged(ctx, sv); err != nil {
		f.logger.Warn("copies of old roots stay; the next mount deletes them", "cause", err)
	}
	f.inherited = s.result.Live
	f.journal = f.newWriter(f.keyring(), s.result.End, 1)
	f.committed.Store(s.result.End.Number)
	return nil
}

// settleRoot makes sure that the root which is gone on from outlives a power loss, before anything is deleted on the
// strength of it: who replaced it last may have been cut off before it was durable in its place, and an older one would
// need what this one does not.
func (f *FS) settleRoot(ctx context.Context, sv *survey) error {
	if err := f.local.Settle(ctx, []string{blockcrypt.RootName, sv.chosen.name}); err != nil {
		return fmt.Errorf("make root durable: %w", err)
	}
	data, err := f.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
	if err != nil {
		return fmt.Errorf("read root: %w", err)
	}
	if !bytes.Equal(data, f.rootData) {
		return fmt.Errorf("read root again: %w: the disk holds another than memory did", ErrDamaged)
	}
	return nil
}

// purgeNameless removes the files that had no name when the last mount ended.
func (f *FS) purgeNameless(ctx context.Context) error {
	for {
		var entry *blockcrypt.Entry
		var h uint64
		err := f.view(ctx, func() error {
			entry = nil
			s := &dirScan{d: f.nameless}
			for !s.done && entry == nil {
				if err := s.gather(f); err != nil {
					return err
				}
				if len(s.items) > 0 {
					entry, h = s.items[0].entry, s.items[0].h
				}
			}
			if entry == nil {
				return nil
			}
			return f.prepare(f.nameless)
		})
		if err != nil || entry == nil {
			return err
		}
		err = f.apply(ctx, freeing, opRoom, func() error {
			if err := f.prepare(f.nameless); err != nil {
				return err
			}
			f.del(f.nameless, h, entry.Name)
			f.countHidden(f.nameless, -1)
			f.drop(entry)
			return nil
		})
		if err != nil {
			return fmt.Errorf("remove a file without a name: %w", err)
		}
	}
}

// Close ends what Rewrap, Reencrypt and KeyUse are doing, commits what waits, folds, marks the term as closed and
// releases everything. If ctx ends first the fold is broken off: the journal is enough to go on from.
func (f *FS) Close(ctx context.Context) (err error) {
	f.closeOnce.Do(func() {
		f.works.end()
		if f.stopLoop != nil {
			f.stopLoop()
			f.loopDone.Wait()
		}
		if !f.readOnly {
			err = f.closeWriting(ctx)
		}
		err = errors.Join(err, f.store.Close())
		f.foldMu.Lock()
		defer f.foldMu.Unlock()
		for _, keys := range f.changed {
			keys.Close()
		}
	})
	return err
}

// dropRefused forgets what there was no space for, or damage in the way of, of which programs have been told, and returns
// of how many files.
func (f *FS) dropRefused() (files int) {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	files = len(f.dirtySet)
	f.dirtySet = nil
	return files
}

func (f *FS) closeWriting(ctx context.Context) error {
	lost := f.SyncHere(ctx)
	if isFull(lost) { // try what a fold gives back
		if err := f.makeRoom(ctx); err == nil {
			lost = f.SyncHere(ctx)
		}
	}
	if lost != nil && !isFull(lost) && !harms(lost) {
		return errors.Join(lost, f.journal.Close())
	}
	f.foldMu.Lock()
	defer f.foldMu.Unlock()
	if n := f.dropRefused(); n > 0 {
		f.logger.Warn("what could not be saved, as was said, is dropped", "files", n)
	}
	f.giveBack(ctx, true)
	last := f.foldLocked
	if f.shared != nil {
		last = func(ctx context.Context, _ bool) error { return f.closeShared(ctx) }
	}
	err := last(ctx, true)
	if f.shared != nil {
		bytes, objects := f.unpublishedSize()
		f.left.Store(&leftHere{bytes, objects})
	}
	switch {
	case err == nil:
	case ctx.Err() != nil && f.shared != nil:
		f.logger.Info("publishing was broken off; what is not published lies in the state directory, and the next mount publishes it")
		err = nil
	case ctx.Err() != nil:
		f.logger.Info("folding was broken off; the journal holds all, and a copy of the vault needs it")
		err = nil
	case isFull(err):
		f.logger.Warn("there is no space to fold; the journal holds all, and a copy of the vault needs it", "cause", err)
		err = nil
	}
	return errors.Join(lost, err, f.journal.Close())
}
