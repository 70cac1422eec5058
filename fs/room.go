package fs

import (
	"context"
	"errors"
	"math"
	"sync"

	"envfs/remote"
)

// urgency tells what an operation is for, and so how far it may go on a disk that is full.
type urgency int

const (
	ordinary urgency = iota
	freeing          // gives back space: it may use what is held back for that
)

// journalRoom is the account of the space that the journal has reserved behind its end. Who is about to change memory
// first claims what its batch may take: so what is in memory always fits into the journal, and no append fails for want
// of space, after which memory would be ahead of the store and all writing had to stop.
type journalRoom struct {
	mu      sync.Mutex
	changed sync.Cond
	room    int64 // reserved behind the end of the journal, in bytes
	claimed int64 // by operations whose batches are not appended yet
}

const (
	// opRoom is what a batch of one operation takes at most, beside contents and extended attributes: its entries, and
	// those of the directories above that it is the first to touch.
	opRoom = 16 << 10

	// roomSlack stays unclaimed, for the records that are nobody's.
	roomSlack = 64 << 10

	// The journal reserves so much at a time: 1/128 of the disk within these bounds. Half of it is held back for what
	// frees space.
	minRoom = 512 << 10
	maxRoom = 4 << 20
)

// roomStep returns how much the journal reserves at a time on a disk of so many bytes.
func roomStep(total uint64) int64 { return int64(min(max(total/128, minRoom), maxRoom)) }

// try claims n bytes if so many are free beside keep.
func (r *journalRoom) try(n, keep int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.room-r.claimed < n+keep {
		return false
	}
	r.claimed += n
	return true
}

// unclaim gives a claim back, when the batch is appended or will not be.
func (r *journalRoom) unclaim(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claimed -= n
	r.changed.Broadcast()
}

// wait returns true when others have given back claims so that it is worth trying again, false if there is nothing to wait
// for.
func (r *journalRoom) wait(n, keep int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.room-r.claimed < n+keep {
		if r.claimed == 0 || r.room < n+keep {
			return false
		}
		r.changed.Wait()
	}
	return true
}

func (r *journalRoom) get() (room, claimed int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.room, r.claimed
}

// set says how much room there is.
func (r *journalRoom) set(room int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.room = room
	r.changed.Broadcast()
}

// use says how much room there is after something was appended: less, whatever is going on.
func (r *journalRoom) use(room int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.room = min(r.room, room)
}

// limit makes sure that no more than room is claimed from now on; false if more is claimed already.
func (r *journalRoom) limit(room int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claimed+roomSlack > room {
		return false
	}
	r.room = min(r.room, room)
	return true
}

// claim claims n bytes of the journal for the batch of an operation that has not changed anything yet; ErrNoSpace if the
// disk is too full. The claim is given back by f.room.unclaim. It may wait for other operations to end, and for a fold:
// the caller holds neither a claim nor a lock that those need (commitMu, foldMu, FS.mu).
func (f *FS) claim(ctx context.Context, n int64, u urgency) error {
	keep, step := f.keepRoom(u)
	r := &f.room
	if r.try(n, keep) {
		return nil
	}
	err := f.extend(ctx, n+step, true)
	for err == nil || isFull(err) {
		if r.try(n, keep) {
			return nil
		}
		if r.wait(n, keep) {
			continue
		}
		if !f.futile() {
			if err = f.makeRoom(ctx); err == nil {
				err = f.extend(ctx, n+step, true)
			}
			continue
		}
		if u == ordinary {
			return ErrNoSpace
		}
		// All that is left goes into the journal of what frees space.
		if err = f.extend(ctx, n+keep, false); err != nil {
			return err
		}
	}
	return err
}

// keepRoom returns how much of the journal's room is not for an operation of that urgency, and how much is reserved at a
// time.
func (f *FS) keepRoom(u urgency) (keep, step int64) {
	step = f.space.step.Load()
	if u == ordinary {
		return max(roomSlack, step/2), step
	}
	return roomSlack, step
}

// roomLack returns how much the journal has yet to reserve for ordinary operations to go on.
func (f *FS) roomLack() uint64 {
	room, claimed := f.room.get()
	return uint64(max(0, f.space.step.Load()+opRoom-(room-claimed)))
}

// extend has the journal reserve room for n bytes beside what is claimed; if spare is true, only of space that the next
// fold does not need.
func (f *FS) extend(ctx context.Context, n int64, spare bool) error {
	if spare {
		fits, err := f.fits(ctx, f.pendingSpace()+f.space.floor()+uint64(n))
		if err == nil && !fits {
			err = ErrNoSpace
		}
		if err != nil {
			return err
		}
	}
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	_, claimed := f.room.get()
	before := f.journal.Room()
	if err := f.journal.Reserve(ctx, claimed+n); err != nil {
		return err
	}
	room := f.journal.Room()
	if room != math.MaxInt64 && room > before {
		f.space.spend(int(room - before))
	}
	f.room.set(room)
	return nil
}

// handOver has prepare reserve room in what the journal goes on in, and grants no more claims from then on than fit there.
// commitMu is held.
func (f *FS) handOver(ctx context.Context, prepare func(context.Context, int64) error) error {
	for {
		_, claimed := f.room.get()
		room := claimed + roomSlack + f.space.step.Load()
		err := prepare(ctx, room)
		if errors.Is(err, remote.ErrNoSpace) {
			room = claimed + roomSlack
			err = prepare(ctx, room)
		}
		if err != nil || f.room.limit(room) {
			return err
		}
	}
}
