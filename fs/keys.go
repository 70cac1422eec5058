package fs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"envfs/blockcrypt"
	"envfs/fs/journal"
	"envfs/keystore"
	"envfs/remote"
)

// ChangeKeys stores the key file that edit makes of the present one, and makes root name it: one commit. A new key
// epoch begins with a segment of its own: everything before is synced first.
func (f *FS) ChangeKeys(ctx context.Context, edit func(*keystore.Vault) (*keystore.Vault, error)) error {
	if err := f.writable(); err != nil {
		return err
	}
	wait := ctx // for a shared store that is away
	ctx = context.WithoutCancel(ctx)
	if err := f.flushAll(ctx); err != nil {
		return err
	}
	// A new epoch is not to fail for want of space half-way.
	if err := f.admit(ctx, keyRoom, ordinary); err != nil {
		return fmt.Errorf("change keys: %w", err)
	}
	f.foldMu.Lock()
	defer f.foldMu.Unlock()
	if err := f.rootMu.LockContext(wait); err != nil {
		return fmt.Errorf("change keys: %w", err)
	}
	defer f.rootMu.Unlock()
	old := f.keyring()
	next, err := edit(old)
	if err != nil {
		return err
	}
	if err := f.changeTo(ctx, wait, next); err != nil {
		if f.keyring() != next {
			next.Close() // nothing was sealed by its keys
		}
		return err
	}
	old.Supersede()
	if err := f.putKeyCopy(ctx, next); err != nil {
		f.logger.Warn("the copy of the key file is older than the key file", "cause", err)
	}
	return nil
}

// changeTo stores the key file of next and makes root name it. wait is the context of waiting for a shared store.
// foldMu and rootMu are held.
func (f *FS) changeTo(ctx, wait context.Context, next *keystore.Vault) error {
	ref, err := f.putKeyFile(ctx, next)
	if err != nil {
		return err
	}
	if err := f.store.Sync(ctx); err != nil {
		return fmt.Errorf("store the key file: %w", err)
	}
	if f.shared != nil { // so that little is left to be sent while nothing can be committed, and a store that is away is waited for here
		if err := f.publishLocked(wait); err != nil {
			return err
		}
	}
	return f.newEpoch(ctx, next, ref)
}

// keyRoom is what a change of keys takes on the disk at most, in bytes: key file, its copy, root, its copies, a segment.
const keyRoom = 1 << 20

// newEpoch makes root name a key file, with nothing being committed meanwhile: of an older epoch nothing counts beyond
// what the new root vouches for.
func (f *FS) newEpoch(ctx context.Context, next *keystore.Vault, ref blockcrypt.ObjRef) error {
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	f.mu.Lock()
	taken := f.take()
	if f.shared != nil {
		f.layerNo++ // what is published does not grow
	}
	f.mu.Unlock()
	f.appendAll(ctx, taken)
	if err := f.stoppedBy(); err != nil {
		return err
	}
	if err := f.syncNow(ctx); err != nil {
		return err
	}
	live := f.liveSegments()
	f.mu.Lock()
	extents := maps.Clone(f.mine.extents)
	f.mu.Unlock()
	if err := f.send(ctx, live, extents); err != nil {
		return err
	}
	at := f.journal.Position()
	writer := f.newWriter(next, at, f.journal.NextSeq())
	if err := f.handOver(ctx, writer.Reserve); err != nil {
		return fmt.Errorf("begin a journal segment: %w", err)
	}
	f.keys.Store(next)
	f.changed = append(f.changed, next)
	err := f.replaceRoot(ctx, func(r *blockcrypt.Root) {
		r.KeyFile = ref
		nameSegments(r, live)
	})
	if err != nil {
		if errors.Is(err, remote.ErrChanged) || f.stoppedBy() != nil {
			return err
		}
		// Which of the two roots is there is not known, and data keys are wrapped for the new epoch already.
		f.stop(err)
		return err
	}
	f.syncMu.Lock()
	defer f.syncMu.Unlock()
	if err := f.journal.Close(); err != nil {
		f.logger.Warn("closing a journal segment failed", "cause", err)
	}
	f.inherited = live
	f.journal = writer
	f.sent(ctx, live, extents)
	f.mine.batch = at.Number
	f.notePublished(at.Number, f.clock.Now())
	f.room.set(writer.Room())
	return nil
}

// newWriter returns a writer of the journal behind a position, under the newest key epoch of keys.
func (f *FS) newWriter(keys *keystore.Vault, at journal.Pos, seq uint64) *journal.Writer {
	return journal.NewWriter(journal.Config{Store: f.local, Vault: f.vault, Keys: keys, Rand: f.rand,
		Term: f.term.Number, Tag: f.term.Tag, Published: f.shared != nil}, at, seq)
}

// liveSegments returns the segments with batches that are not folded, in order. commitMu is held.
func (f *FS) liveSegments() []blockcrypt.SegmentRef {
	return append(slices.Clone(f.inherited), f.journal.Segments()...)
}

// keyRef gives whoever keeps it the keys as they are now.
type keyRef struct{ f *FS }

// KEK returns the key-encryption key of an epoch.
func (k keyRef) KEK(epoch uint32) ([]byte, error) { return k.f.keyring().KEK(epoch) }
