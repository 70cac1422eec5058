package journal

import (
	"context"
	"errors"
	"math"

	"envfs/remote"
)

// segmentOverhead is what a segment takes beside its batches, in bytes: prefix, start record and announcement.
const segmentOverhead = 2 << 10

// Reserve makes sure that batches of n bytes in all, as they lie in their segments, can be appended without the store
// running out of space. For that it makes the first segment, or goes on to the next, if need be. An error of want of
// space (remote.ErrNoSpace) is not sticky: the Writer is as it was.
func (w *Writer) Reserve(ctx context.Context, n int64) error {
	if err := w.failed(); err != nil {
		return err
	}
	if err := w.first(ctx); err != nil {
		return err
	}
	// Append goes on to the next segment when it must; here, an error of that comes early enough to be none.
	ends := w.cur.size+n+announceRoom > w.cfg.MaxSegment && n < w.cfg.MaxSegment/2 || w.cur.seals > w.cfg.MaxSeals/8*7
	if ends && w.cur.size > 0 {
		return w.advance(ctx, n)
	}
	return w.cur.reserve(n)
}

// Room returns how many bytes of batches are reserved; math.MaxInt64 on a store that cannot reserve space.
func (w *Writer) Room() int64 {
	switch {
	case w.cur == nil:
		return 0
	case w.cur.unbounded:
		return math.MaxInt64
	}
	return max(0, w.cur.reserved-w.cur.size-segmentOverhead)
}

// Prepare makes the segment that the next Rotate goes on to, its name durable, with space reserved for batches of n bytes
// in all. An error of want of space is not sticky.
func (w *Writer) Prepare(ctx context.Context, n int64) error {
	if err := w.failed(); err != nil {
		return err
	}
	if w.next == nil {
		next, err := w.create(ctx)
		if err != nil {
			return err
		}
		w.next = next
	}
	return w.next.reserve(n)
}

// first makes the first segment if there is none. One that is prepared is it: the room that was promised lies there.
func (w *Writer) first(ctx context.Context) error {
	if w.cur != nil {
		return nil
	}
	next := w.next
	if next == nil {
		var err error
		if next, err = w.create(ctx); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cur, w.next = next, nil
	return nil
}

// reserve makes sure that o can take batches of n bytes.
func (o *output) reserve(n int64) error {
	length := o.size + n + segmentOverhead
	if n == 0 || o.unbounded || length <= o.reserved {
		return nil
	}
	err := o.file.Reserve(length)
	if errors.Is(err, remote.ErrUnsupported) {
		o.unbounded = true
		return nil
	}
	if err == nil {
		o.reserved = length
	}
	return err
}
