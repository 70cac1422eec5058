package journal

import (
	"context"
	"fmt"
	"slices"

	"envfs/blockcrypt"
)

// Sync makes durable every batch whose Append returned before Sync was called. Those who wait at the same time share
// one. Segments are synced oldest first, so that no batch counts as durable before all that came before it. An error is
// sticky. ctx is looked at only before anything is done.
func (w *Writer) Sync(ctx context.Context) error {
	target := w.Position()
	w.syncing.Lock()
	defer w.syncing.Unlock()
	if err := w.failed(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sync the journal: %w", err)
	}
	w.mu.Lock()
	if w.durable.Number >= target.Number {
		w.mu.Unlock()
		return nil
	}
	target = w.pos
	outputs := slices.Clone(w.unsynced)
	w.mu.Unlock()
	for _, o := range outputs {
		if err := o.file.Sync(); err != nil {
			return w.stick(fmt.Errorf("sync segment %s: %w", o.name, err))
		}
	}
	return w.synced(target)
}

// synced notes that all up to target is durable, and lets go of the segments that end there.
func (w *Writer) synced(target Pos) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.durable = target
	for len(w.unsynced) > 0 && w.unsynced[0].last <= target.Number {
		o := w.unsynced[0]
		w.unsynced = slices.Delete(w.unsynced, 0, 1)
		if o == w.cur {
			continue
		}
		if err := o.file.Close(); err != nil {
			return w.stickLocked(fmt.Errorf("close segment %s: %w", o.name, err))
		}
	}
	return nil
}

// stick makes err the first and last word of w.
func (w *Writer) stick(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stickLocked(err)
}

func (w *Writer) stickLocked(err error) error {
	if w.err == nil {
		w.err = err
	}
	return w.err
}

func (w *Writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Position returns the end of what was appended.
func (w *Writer) Position() Pos {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pos
}

// Durable returns the position up to which the journal is known durable. What batches refer to outside the journal may
// be not.
func (w *Writer) Durable() Pos {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.durable
}

// Segment returns the full name of the segment that the next batch goes to, unless that begins a new one; empty before
// the first.
func (w *Writer) Segment() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cur == nil {
		return ""
	}
	return w.cur.name
}

// NextSeq returns the first sequence number of the term that no segment has. It must not run concurrently with Append
// or Rotate.
func (w *Writer) NextSeq() uint64 { return w.seq }

// Segments returns the segments with batches that w has written and that were not dropped, in order, as they are now.
// Root may name them once a Sync has returned that was called after this.
func (w *Writer) Segments() []blockcrypt.SegmentRef {
	w.mu.Lock()
	defer w.mu.Unlock()
	refs := make([]blockcrypt.SegmentRef, len(w.kept))
	for i := range w.kept {
		refs[i] = w.kept[i].ref
	}
	return refs
}

// Bytes returns the total length of these segments.
func (w *Writer) Bytes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var n int64
	for i := range w.kept {
		n += int64(w.kept[i].ref.Length)
	}
	return n
}

// Drop forgets the segments whose batches all have numbers up to cut, and returns their full names: once root says that
// they are folded, they may be deleted. The present segment stays, even if it has nothing beyond the cut.
func (w *Writer) Drop(cut uint64) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	w.kept = slices.DeleteFunc(w.kept, func(k written) bool {
		if k.last > cut || k.ref.Name == w.cur.name {
			return false
		}
		names = append(names, k.ref.Name)
		return true
	})
	return names
}
