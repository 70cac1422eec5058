package fs

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// builder gathers the deltas of the operations that will share one batch of the journal. Until it is taken it is
// guarded by FS.mu, afterwards by FS.commitMu.
type builder struct {
	batch journal.Batch
	fix   []inlineFix
	done  bool
	err   error
	at    journal.Appended
}

// inlineFix says which block a content of the batch is, so that it can be found once its place is known.
type inlineFix struct {
	fd    *fileDelta
	block uint64
	index int
}

// log adds a delta to the batch that is being gathered. FS.mu is held.
func (f *FS) log(d journal.Delta) {
	f.pending.batch.Deltas = append(f.pending.batch.Deltas, d)
}

// set puts an entry in its place, in memory and in the batch. prepare(d) must have succeeded under the same lock.
func (f *FS) set(d *dir, h uint64, e *blockcrypt.Entry) {
	f.touch(d)
	f.active.put(d, h, e.Name, e)
	f.log(journal.Delta{Kind: journal.SetEntry, ID: d.id, Entry: e})
}

// del removes a name.
func (f *FS) del(d *dir, h uint64, name string) {
	f.touch(d)
	f.active.put(d, h, name, nil)
	f.log(journal.Delta{Kind: journal.DelEntry, ID: d.id, Name: name})
}

// drop notes that a file or directory has lost its last name.
func (f *FS) drop(e *blockcrypt.Entry) {
	f.active.drops[e.ID] = e
	f.active.bytes += entryCost
	f.log(journal.Delta{Kind: journal.Drop, ID: e.ID, Entry: e})
}

// prepare finds the entries of d and of all directories above it that the active layer has not mentioned yet, so that
// touch can.
func (f *FS) prepare(d *dir) error {
	for ; d.parent != nil; d = d.parent {
		if dd := f.active.dirs[d.id]; dd != nil {
			return nil
		}
		if _, err := f.dirEntry(d); err != nil {
			return err
		}
	}
	return nil
}

// touch makes the active layer, and so the journal after the last cut, tell where d lies: replaying and folding find
// every directory that a layer speaks of by going down from the top.
func (f *FS) touch(d *dir) {
	if f.active.dirs[d.id] != nil {
		return
	}
	if d.parent == nil {
		f.pin(d)
		return
	}
	f.touch(d.parent)
	e, err := f.dirEntry(d)
	if err != nil {
		panic("fs: directory " + d.id.String() + " was not prepared: " + err.Error())
	}
	f.pin(d)
	f.active.put(d.parent, d.h, d.name, e)
	f.log(journal.Delta{Kind: journal.SetEntry, ID: d.parent.id, Entry: e})
}

// pin gives the active layer a delta for d.
func (f *FS) pin(d *dir) {
	f.active.dirs[d.id] = newDirDelta(d)
	f.active.bytes += entryCost
	f.active.objectBytes += objectCost
	d.refs++
}

// unpin lets go of the directories that a layer has held.
func (f *FS) unpin(l *layer) {
	for _, dd := range l.dirs {
		f.unrefDir(dd.dir)
	}
}

// apply is operate without what was written before. Its batch takes up to n bytes of the journal.
func (f *FS) apply(ctx context.Context, u urgency, n int64, fn func() error) error {
	ctx = context.WithoutCancel(ctx)
	if err := f.admit(ctx, 0, u); err != nil {
		return err
	}
	if err := f.claim(ctx, n, u); err != nil {
		return err
	}
	defer f.room.unclaim(n)
	return f.applyClaimed(ctx, fn)
}

// applyClaimed is apply for who has claimed the journal's space.
func (f *FS) applyClaimed(ctx context.Context, fn func() error) error {
	var b *builder
	err := f.view(ctx, func() error {
		b = f.pending
		before := len(b.batch.Deltas)
		err := fn()
		if err == nil && len(b.batch.Deltas) == before {
			b = nil
		}
		return err
	})
	if err != nil || b == nil {
		return err
	}
	return f.commit(ctx, b)
}

// commit returns when b is in the journal. Whoever comes first appends for all who wait: their deltas share a batch.
func (f *FS) commit(ctx context.Context, b *builder) error {
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	if b.done {
		return b.err
	}
	f.mu.Lock()
	taken := f.take()
	f.mu.Unlock()
	f.appendAll(ctx, taken)
	return b.err
}

// take returns what is to be appended, and begins a new batch. FS.mu is held.
func (f *FS) take() []*builder {
	taken := append(f.queue, f.pending)
	f.queue = nil
	f.pending = &builder{}
	return taken
}

// appendAll appends builders in order. FS.commitMu is held, so that nothing else appends.
func (f *FS) appendAll(ctx context.Context, taken []*builder) {
	ctx = context.WithoutCancel(ctx) // an append that was broken off would stop all writing
	for _, b := range taken {
		b.done = true
		if len(b.batch.Deltas) == 0 {
			continue
		}
		if err := f.stoppedBy(); err != nil {
			b.err = err
			continue
		}
		b.batch.Durable = f.durable.Load()
		b.at, b.err = f.journal.Append(ctx, &b.batch)
		if b.err != nil {
			f.stop(fmt.Errorf("append to the journal: %w", b.err))
			b.err = f.stoppedBy() // no mere want of space, whatever it was: memory is ahead of the store
			continue
		}
		f.committed.Store(b.at.Pos.Number)
		f.noteCommit()
		f.room.use(f.journal.Room())
		f.mu.Lock()
		for _, fix := range b.fix {
			fix.fd.place(fix.block, inlineRef{segment: b.at.Segment, ref: b.at.Contents[fix.index]})
		}
		f.mu.Unlock()
		b.batch, b.fix = journal.Batch{}, nil
	}
}

// writable says why nothing can be written, if so.
func (f *FS) writable() error {
	if f.readOnly {
		return ErrReadOnly
	}
	return f.stoppedBy()
}

// stop ends all writing after an error that leaves unknown what the store holds: what was reported done is in the
// journal, and a new mount goes on from there.
func (f *FS) stop(err error) {
	wrapped := fmt.Errorf("%w: %w", ErrStopped, err)
	if f.stopped.CompareAndSwap(nil, &wrapped) {
		f.errs.Add(1)
		if errors.Is(err, ErrOvertaken) {
			f.logger.Error("this mount is read-only now; what was not published is kept here, and `envfs sync --rescue` brings it back", "cause", err)
			return
		}
		f.logger.Error("writing has stopped; unmount and mount again to go on", "cause", err)
	}
}

func (f *FS) stoppedBy() error {
	if p := f.stopped.Load(); p != nil {
		return *p
	}
	return nil
}
