package journal

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
)

// walker follows the chain from Replay.From.
type walker struct {
	*Replay
	segs     []*segment // by term, sequence, name
	misnamed []string
	byName   map[string]*segment
	starts   map[Pos][]*segment // authentic segments by what they continue

	dry       bool // apply nothing, stop where root's Last ends
	retiredOK bool // accept retired key epochs up to there
	fn        func(at Appended, b *Batch) error
	fnErr     error

	res      *Result
	origin   *segment // holds the batch that From names; nil: none does
	next     string   // announced by the last batch of the chain
	onChain  map[*segment]bool
	rivals   map[*segment]bool // continue a position that our chain continues otherwise
	known    map[Pos]bool      // positions of the chain, up to From, at which segments begin or end
	vouched  map[blockcrypt.SegmentRef]bool
	position Pos
}

// fresh returns a walker of the same segments that has not gone anywhere.
func (w *walker) fresh() *walker {
	f := &walker{
		Replay: w.Replay, segs: w.segs, misnamed: w.misnamed, byName: w.byName, starts: w.starts,
		onChain: make(map[*segment]bool),
		rivals:  make(map[*segment]bool),
		vouched: make(map[blockcrypt.SegmentRef]bool),
	}
	f.res = &Result{End: w.From, Durable: w.From.Number, NextSeq: make(map[uint64]uint64)}
	f.position = w.From
	if w.res != nil {
		f.res.NextSeq = w.res.NextSeq
	}
	return f
}

// walk follows the chain to its end.
func (w *walker) walk(ctx context.Context) error {
	if w.there() {
		return nil
	}
	c, err := w.locate(ctx)
	if err != nil {
		return err
	}
	if c != nil {
		w.origin = c.seg
		for _, ref := range []blockcrypt.SegmentRef{w.First, w.Last} {
			if ref.Name == c.seg.name && int64(ref.Length) < c.off {
				w.vouched[ref] = true // the end that it names is folded
			}
		}
		w.vouch(c)
		if c.rec.kind == recordAnnounce && !w.ended(c) {
			w.next = c.rec.next
		}
	}
	for {
		var br *Break
		if c != nil {
			if br, err = w.follow(ctx, c); err != nil {
				return err
			}
		}
		if w.there() {
			return nil
		}
		s, err := w.successor(ctx)
		if err != nil {
			return err
		}
		if s == nil {
			return w.stop(ctx, br)
		}
		w.next = ""
		c = w.cursor(s, blockcrypt.SegmentPrefixSize, w.position)
	}
}

// follow reads the batches of one segment, as far as they are on the chain.
func (w *walker) follow(ctx context.Context, c *cursor) (*Break, error) {
	w.onChain[c.seg] = true
	for {
		if w.there() {
			return nil, nil
		}
		before, off := c.pos, c.off
		if w.ended(c) {
			return nil, nil
		}
		why, err := w.accept(ctx, c)
		if err != nil {
			return nil, err
		}
		if why == endOfSegment {
			return nil, nil
		}
		if why != "" {
			return w.breakAt(ctx, c, off, why)
		}
		err = w.apply(c)
		if errors.Is(err, ErrEnd) {
			c.pos, c.off = before, off
			return w.breakAt(ctx, c, off, err.Error())
		}
		if err != nil {
			w.fnErr = err
			return nil, err
		}
		for _, s := range w.starts[before] {
			if s != c.seg {
				w.rivals[s] = true
			}
		}
		if c.rec.kind == recordAnnounce {
			w.next = c.rec.next
			return nil, nil
		}
	}
}

// ended reports whether the term of c's segment has ended at c's position.
func (w *walker) ended(c *cursor) bool { return w.past(c.seg, c.pos.Number+1) }

// past reports whether a batch of s with that number comes after the end of the segment's term.
func (w *walker) past(s *segment, number uint64) bool {
	if w.Ended == nil {
		return false
	}
	last, ended := w.Ended(s.parsed.Term, s.tag())
	return ended && number > last
}

// accept moves c by one batch if that is to be believed, else it says why not.
func (w *walker) accept(ctx context.Context, c *cursor) (why string, err error) {
	before, off := c.pos, c.off
	if c.off < c.src.size && !w.counts(c.seg) {
		return fmt.Sprintf("key epoch %d is retired", c.seg.prefix.Epoch), nil
	}
	if why, err = c.step(ctx); why != "" || err != nil {
		return why, err
	}
	if !w.dry {
		if err := c.contents(); err != nil {
			why = err.Error()
		}
	}
	if why == "" && w.differs(c) {
		why = "differs from what root names"
	}
	if why != "" {
		c.pos, c.off = before, off
	}
	return why, nil
}

// counts reports whether a batch of s after the present position is believed if it is authentic.
func (w *walker) counts(s *segment) bool {
	return s.prefix.Epoch >= w.MinEpoch || w.retiredOK && !w.reached(w.Last)
}

// differs reports whether the position of c contradicts what root names.
func (w *walker) differs(c *cursor) bool {
	for _, ref := range []blockcrypt.SegmentRef{w.First, w.Last} {
		if ref.Length > 0 && ref.Name == c.seg.name && !w.vouched[ref] && c.off >= int64(ref.Length) && !isAt(c, ref) {
			return true
		}
	}
	return false
}

// vouch notes that the chain has come to what root names, if it has.
func (w *walker) vouch(c *cursor) {
	for _, ref := range []blockcrypt.SegmentRef{w.First, w.Last} {
		if ref.Name == c.seg.name && isAt(c, ref) {
			w.vouched[ref] = true
		}
	}
}

func isAt(c *cursor, ref blockcrypt.SegmentRef) bool {
	return c.off == int64(ref.Length) && c.pos.Hash == ref.EndHash
}

// reached reports whether the chain has come to the end that root names, or that end is folded.
func (w *walker) reached(ref blockcrypt.SegmentRef) bool {
	return ref.Length == 0 || w.vouched[ref] || ref.EndHash == w.From.Hash
}

// there reports whether the walk has come to where it is to end.
func (w *walker) there() bool { return (w.dry || w.Named) && w.reached(w.Last) }

// apply takes the batch that c has just passed.
func (w *walker) apply(c *cursor) error {
	if !w.dry && c.rec.kind == recordBatch && w.fn != nil {
		b := Batch{Deltas: c.rec.deltas, Contents: c.plain, Durable: c.rec.durable}
		if err := w.fn(Appended{Pos: c.pos, Segment: c.seg.name, Contents: c.refs}, &b); err != nil {
			return err
		}
	}
	w.vouch(c)
	w.position, w.res.End = c.pos, c.pos
	if w.dry {
		return nil
	}
	w.res.Durable = max(w.res.Durable, c.rec.durable)
	live := &w.res.Live
	if n := len(*live); n == 0 || (*live)[n-1].Name != c.seg.name {
		*live = append(*live, blockcrypt.SegmentRef{Name: c.seg.name})
	}
	ref := &(*live)[len(*live)-1]
	ref.Length, ref.EndHash = uint64(c.off), c.pos.Hash
	return nil
}

// successor returns the segment that continues the present position: the announced one, else one with batches, else
// the first. The others are rivals.
func (w *walker) successor(ctx context.Context) (*segment, error) {
	var best *segment
	for _, s := range w.starts[w.position] {
		if w.onChain[s] || !w.counts(s) || w.Ours != nil && !w.Ours(s.parsed.Term, s.tag()) || w.past(s, w.position.Number+1) {
			continue
		}
		better := best == nil || s.name == w.next
		if !better && best.name != w.next {
			has, err := w.hasBatches(ctx, best)
			if err != nil {
				return nil, err
			}
			if !has {
				if better, err = w.hasBatches(ctx, s); err != nil {
					return nil, err
				}
			}
		}
		if better {
			s, best = best, s
		}
		if s != nil {
			w.rivals[s] = true
		}
	}
	return best, nil
}

// hasBatches reports whether an authentic batch follows the start record of s.
func (w *walker) hasBatches(ctx context.Context, s *segment) (bool, error) {
	c := w.cursor(s, blockcrypt.SegmentPrefixSize, s.continues)
	c.src.ahead = headBytes
	for range 2 {
		if why, err := c.step(ctx); why != "" || err != nil {
			return false, err
		}
	}
	return true, nil
}
