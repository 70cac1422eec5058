package fs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// laidBatch is a batch that is to be laid over what is shown.
type laidBatch struct {
	at     journal.Appended
	deltas []journal.Delta
}

// errNewKeys says that what was published is sealed under keys that this mount does not have.
var errNewKeys = errors.New("the vault's keys were changed: unmount and mount again")

// errNotThere says that what root names cannot be read whole.
var errNotThere = errors.New("the journal does not reach where root says that it does")

// newBatches reads what root names beyond what is shown.
func (f *FS) newBatches(ctx context.Context, root *blockcrypt.Root) (batches []laidBatch, end journal.Pos, err error) {
	r := journal.Replay{Store: f.store, Vault: f.vault, Keys: f.keyring(), From: f.follower.end, Last: root.Last,
		MinEpoch: root.Epoch, Named: true,
		Ended: func(term uint64, tag blockcrypt.Tag) (uint64, bool) { return endOf(root, term, tag) },
		Ours: func(term uint64, tag blockcrypt.Tag) bool {
			return findTerm(root, blockcrypt.Term{Number: term, Tag: tag}) != nil
		}}
	result, err := r.Run(ctx, func(at journal.Appended, b *journal.Batch) error {
		batches = append(batches, laidBatch{at, slices.Clone(b.Deltas)})
		return nil
	})
	if err != nil {
		return nil, end, fmt.Errorf("read journal: %w", err)
	}
	if root.Last.Length > 0 && result.End.Hash != root.Last.EndHash {
		return nil, end, fmt.Errorf("read journal: %w: %w", ErrDamaged, errNotThere)
	}
	return batches, result.End, nil
}

// early reports whether a batch speaks of what a fold has written that is younger than root.
func (r *replayer) early(deltas []journal.Delta) bool {
	return r.placed(&journal.Batch{Deltas: deltas}) != nil
}

// allPlaced reports whether every directory that the batches speak of has a place.
func (f *FS) allPlaced(batches []laidBatch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	made := make(map[blockcrypt.ID]bool)
	for _, b := range batches {
		for i := range b.deltas {
			d := &b.deltas[i]
			if d.Kind != journal.SetEntry && d.Kind != journal.DelEntry {
				continue
			}
			if f.dirs[d.ID] == nil && !made[d.ID] {
				return false
			}
			if d.Kind == journal.SetEntry && d.Entry.Type == blockcrypt.TypeDirectory {
				made[d.Entry.ID] = true
			}
		}
	}
	return true
}

// layOver lays batches over what is shown, all at once.
func (f *FS) layOver(root *blockcrypt.Root, data []byte, batches []laidBatch) {
	rp := f.follower.replayer
	f.mu.Lock()
	for _, b := range batches {
		if err := rp.lay(b.at, b.deltas); err != nil {
			panic("fs: " + err.Error()) // allPlaced has made sure
		}
		for i := range b.deltas {
			f.noteDelta(rp, &b.deltas[i])
		}
	}
	f.root, f.rootData = root, data
	f.mu.Unlock()
	rp.release()
}

// noteDelta tells what is in memory of a file or directory what a batch says of it. FS.mu is held.
func (f *FS) noteDelta(rp *replayer, d *journal.Delta) {
	switch d.Kind {
	case journal.SetEntry:
		e := rp.patch(d.Entry)
		if ino := f.inodes[e.ID]; ino != nil && e.Type != blockcrypt.TypeLinkRef {
			in := f.dirs[d.ID]
			f.rejoin(ino, in, in.hash(e.Name), e)
		}
	case journal.Drop:
		if ino := f.inodes[d.ID]; ino != nil {
			e := *rp.patch(d.Entry)
			e.Attr.Nlink = 0
			ino.ghost = &e
		}
	}
}

// rejoin tells an inode where its entry lies and what that says: others may have changed both. FS.mu is held.
func (f *FS) rejoin(ino *Inode, in *dir, h uint64, e *blockcrypt.Entry) {
	if ino.in != in || ino.h != h {
		in.refs++
		old := ino.in
		ino.in, ino.h = in, h
		f.unrefDir(old)
	}
	if ino.self != nil && (f.dirs[e.ID] != ino.self || ino.self.parent != in || ino.self.h != h) {
		old := ino.self
		ino.self = f.refDir(in, h, e)
		f.unrefDir(old)
	}
	ino.ghost, ino.past = nil, nil
	f.renew(ino, e)
}

// renew notes that a file's content is another now, if it is. FS.mu is held.
func (f *FS) renew(ino *Inode, e *blockcrypt.Entry) {
	s := &ino.seen
	if !s.opened || s.stamp == stampOf(e) {
		return
	}
	s.stale, s.stamp = true, stampOf(e)
	if !s.queued {
		s.queued = true
		f.follower.changed = append(f.follower.changed, ino)
	}
	if c := ino.content; c != nil {
		c.mu.Lock()
		c.size = e.Attr.Size
		c.moments++
		c.mu.Unlock()
	}
}
