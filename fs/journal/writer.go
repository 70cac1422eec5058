package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"envfs/blockcrypt"
	"envfs/remote"
)

// Defaults of Config.
const (
	DefaultMaxSegment = 256 << 20 // bytes
	DefaultMaxSeals   = 1 << 20
)

// MaxLength is how many bytes of a segment are ever looked at: more than any writer makes it. What lies behind has been put
// there by somebody who wants it to be read for hours.
const MaxLength = 512 << 20

// announceRoom is what a segment keeps free for the announcement of its successor, in bytes.
const announceRoom = 512

// maxKept bounds the buffer that a Writer keeps between batches, in bytes.
const maxKept = 4 << 20

// ErrClosed is what a closed Writer returns.
var ErrClosed = errors.New("journal is closed")

// Keys are the key-encryption keys of a Writer.
type Keys interface {
	blockcrypt.KEKs
	Newest() uint32 // key epoch that new segments are sealed under
}

// Config says where and how a Writer writes.
type Config struct {
	Store      remote.Local
	Vault      blockcrypt.Vault
	Keys       Keys
	Rand       io.Reader // nil: crypto/rand
	Term       uint64
	Tag        blockcrypt.Tag // of the term
	MaxSegment int64          // length of a segment in bytes; 0: DefaultMaxSegment. One batch may exceed it.
	MaxSeals   int            // records sealed in one segment; 0: DefaultMaxSeals. One batch may exceed it.

	// Published says that others see a segment only when it is published: then none announces its successor, which they
	// may not see yet. That the newest are there is for root to vouch.
	Published bool
}

// Writer appends batches to the journal. Append, Reserve, Room, Prepare, Rotate and Close must not run concurrently with
// each other; all else may be called at any time.
//
// An error that leaves unknown what the store holds is sticky: every later call returns it, and only a new Writer,
// behind a new replay, can go on.
type Writer struct {
	cfg Config

	// Of Append, Prepare and Rotate.
	seq     uint64  // of the next segment
	next    *output // made, not yet announced; or nil
	claimed uint64  // highest position that a batch called durable
	out     []byte  // sealed
	meta    []byte  // of the batch
	ownMeta []byte  // of start records and announcements

	syncing sync.Mutex // held during a sync

	mu       sync.Mutex
	cur      *output // changed by Append and Rotate only, which read it without the lock
	pos      Pos
	durable  Pos
	unsynced []*output // in order; batches after durable lie in these
	kept     []written
	err      error
}

// written is a segment with batches.
type written struct {
	ref  blockcrypt.SegmentRef
	last uint64 // number of its last batch
}

// NewWriter returns a Writer whose first batch continues the position at, which must be durable on the store. seq is
// the first sequence number of the term that no segment has (Result.NextSeq). It creates nothing before the first
// Append. The key epoch must not change under a Writer while it has a segment open: close it before root names the new
// epoch, and go on in a new Writer.
func NewWriter(cfg Config, at Pos, seq uint64) *Writer {
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.MaxSegment == 0 {
		cfg.MaxSegment = DefaultMaxSegment
	}
	if cfg.MaxSeals == 0 {
		cfg.MaxSeals = DefaultMaxSeals
	}
	return &Writer{cfg: cfg, seq: seq, claimed: at.Number, pos: at, durable: at}
}

// Append seals b and appends it with one write; when it returns nil, the batch survives the end of this process. It
// first makes a segment if there is none, or if this one would become too long. A batch that cannot be encoded, or a
// segment that cannot be created, is an error that is not sticky. b belongs to the caller again afterwards.
func (w *Writer) Append(ctx context.Context, b *Batch) (Appended, error) {
	if err := w.failed(); err != nil {
		return Appended{}, err
	}
	at := w.Position()
	if b.Durable > at.Number {
		return Appended{}, fmt.Errorf("append batch %d: it calls batch %d durable", at.Number+1, b.Durable)
	}
	meta, err := appendBatch(w.meta[:0], b)
	if err != nil {
		return Appended{}, fmt.Errorf("append batch %d: %w", at.Number+1, err)
	}
	w.meta = keep(meta)
	size, err := sealedSize(meta, b.Contents)
	if err != nil {
		return Appended{}, fmt.Errorf("append batch %d: %w", at.Number+1, err)
	}
	w.claimed = max(w.claimed, b.Durable)
	if w.cur != nil && w.cur.size > 0 && w.full(size, 1+len(b.Contents)) {
		if err := w.advance(ctx, max(size, w.Room())); err != nil {
			return Appended{}, err
		}
	}
	if err := w.first(ctx); err != nil {
		return Appended{}, err
	}
	s := sealed{bytes: w.out[:0], end: w.Position()}
	if w.cur.size == 0 {
		if err := w.begin(w.cur, &s); err != nil {
			return Appended{}, err
		}
	}
	if err := w.seal(w.cur, &s, meta, b.Contents); err != nil {
		return Appended{}, err
	}
	if err := w.write(&s, w.cur); err != nil {
		return Appended{}, err
	}
	return Appended{Pos: s.end, Segment: w.cur.name, Contents: s.contents}, nil
}

// sealedSize returns the bytes that a batch takes in its segment.
func sealedSize(meta []byte, contents [][]byte) (int64, error) {
	n := int64(blockcrypt.FrameSize + blockcrypt.RecordOverhead + len(meta))
	for _, c := range contents {
		n += int64(blockcrypt.RecordOverhead + len(c))
	}
	if n > blockcrypt.MaxBatch {
		return 0, fmt.Errorf("%d bytes in one batch", n)
	}
	return n + blockcrypt.BatchAlign, nil
}

func (w *Writer) full(size int64, seals int) bool {
	return w.cur.size+size+announceRoom > w.cfg.MaxSegment || w.cur.seals+seals+1 > w.cfg.MaxSeals
}

// write appends what was sealed for the present segment, after which next is the present one.
func (w *Writer) write(s *sealed, next *output) error {
	w.out = keep(s.bytes)
	o := w.cur
	if err := o.file.Append(s.bytes); err != nil {
		return w.stick(fmt.Errorf("append to segment %s: %w", o.name, err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.unsynced); n == 0 || w.unsynced[n-1] != o {
		w.unsynced = append(w.unsynced, o)
	}
	if o.size == 0 {
		w.kept = append(w.kept, written{ref: blockcrypt.SegmentRef{Name: o.name}})
	}
	o.size += int64(len(s.bytes))
	o.seals += s.seals
	o.last = s.end.Number
	k := &w.kept[len(w.kept)-1]
	k.ref.Length, k.ref.EndHash, k.last = uint64(o.size), s.end.Hash, s.end.Number
	w.pos, w.cur = s.end, next
	return nil
}

// Rotate closes the present segment: it makes the next one, and its name durable, and then announces it in the present
// one. It does nothing if nothing was appended since the last time.
func (w *Writer) Rotate(ctx context.Context) error {
	if err := w.failed(); err != nil {
		return err
	}
	if w.cur == nil && w.next != nil {
		return w.first(ctx) // there is nothing to close, and what is prepared can be used
	}
	if w.cur == nil || w.cur.size == 0 {
		return nil
	}
	if err := w.Prepare(ctx, 0); err != nil {
		return err
	}
	if w.cfg.Published {
		w.mu.Lock()
		defer w.mu.Unlock()
		old := w.cur
		w.cur, w.next = w.next, nil
		if slices.Contains(w.unsynced, old) {
			return nil // closed when it is synced
		}
		if err := old.file.Close(); err != nil {
			return w.stickLocked(fmt.Errorf("close segment %s: %w", old.name, err))
		}
		return nil
	}
	s := sealed{bytes: w.out[:0], end: w.Position()}
	w.ownMeta = appendAnnounce(w.ownMeta[:0], w.claimed, w.next.name)
	if err := w.seal(w.cur, &s, w.ownMeta, nil); err != nil {
		return err
	}
	if err := w.write(&s, w.next); err != nil {
		return err
	}
	w.next = nil
	return nil
}

// advance goes on to the next segment, with space for n bytes.
func (w *Writer) advance(ctx context.Context, n int64) error {
	if err := w.Prepare(ctx, n); err != nil {
		return err
	}
	return w.Rotate(ctx)
}

// keep returns buf for use again, or nil if it has grown beyond what is worth holding.
func keep(buf []byte) []byte {
	if cap(buf) > maxKept {
		return nil
	}
	return buf
}

// Close releases the descriptors and gives back what was reserved; it makes nothing durable.
func (w *Writer) Close() error {
	w.syncing.Lock() // a sync that is under way ends first
	defer w.syncing.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(w.err, ErrClosed) {
		return nil
	}
	w.err = ErrClosed
	var errs []error
	for _, o := range w.unsynced {
		if o != w.cur {
			errs = append(errs, o.file.Close())
		}
	}
	for _, o := range []*output{w.cur, w.next} {
		if o != nil {
			errs = append(errs, o.file.Close())
		}
	}
	w.unsynced, w.next = nil, nil
	return errors.Join(errs...)
}
