package journal

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"envfs/blockcrypt"
)

// breakAt describes a break of the chain at off.
func (w *walker) breakAt(ctx context.Context, c *cursor, off int64, why string) (*Break, error) {
	zero, err := c.src.allZero(ctx, off)
	if err != nil {
		return nil, err
	}
	return &Break{Segment: c.seg.name, Offset: off, Reason: why, Tail: max(0, c.src.size-off), TailZero: zero}, nil
}

// stop ends the chain: br is how the last segment ended, nil if cleanly.
func (w *walker) stop(ctx context.Context, br *Break) (err error) {
	w.res.Break = br
	if w.next == "" {
		return nil
	}
	s := w.byName[w.next]
	switch {
	case s == nil:
		w.damage(w.next, "the announced segment is missing")
	case s.authentic:
		w.damage(w.next, "the announced segment continues another position, or is of a retired key epoch")
	case s.size > 0:
		w.res.Break, err = w.breakAt(ctx, w.cursor(s, 0, w.position), 0, s.why)
	}
	return err
}

// damage notes that something durable is missing, unless that is known already.
func (w *walker) damage(name, why string) {
	switch br := w.res.Break; {
	case br == nil:
		w.res.Break = &Break{Segment: name, Reason: why, Damage: true}
	case !br.Damage:
		br.Damage = true
		br.Reason += "; " + why
	}
}

// finish accounts for all that is not on the chain, and finds out whether what is missing was durable.
func (w *walker) finish(ctx context.Context) error {
	for _, ref := range []blockcrypt.SegmentRef{w.First, w.Last} {
		if !w.reached(ref) {
			w.damage(ref.Name, "the journal does not get to the end that root names")
		}
	}
	if br := w.res.Break; br != nil && br.Tail > 0 && !br.TailZero {
		if s := w.byName[br.Segment]; s != nil {
			if err := w.heed(ctx, s, max(br.Offset, blockcrypt.SegmentPrefixSize)); err != nil {
				return err
			}
		}
	}
	if err := w.findFolded(ctx); err != nil {
		return err
	}
	for _, name := range w.misnamed {
		w.res.Foreign = append(w.res.Foreign, Foreign{Name: name, Reason: "not the name of a segment"})
	}
	for _, s := range w.segs {
		if w.onChain[s] || slices.Contains(w.res.Folded, s.name) || s.name == w.next && !s.authentic {
			continue
		}
		if err := w.stranger(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// findFolded finds the segments of our chain that have nothing after From: that which holds From, if it ends there,
// and those whose last batch is continued by another of them.
func (w *walker) findFolded(ctx context.Context) error {
	w.known = map[Pos]bool{w.From: true}
	for _, s := range w.segs {
		if s.authentic && w.onChain[s] {
			w.known[s.continues] = true
		}
	}
	if o := w.origin; o != nil && (len(w.res.Live) == 0 || w.res.Live[0].Name != o.name) {
		w.res.Folded = append(w.res.Folded, o.name)
	}
	old := slices.Clone(w.segs)
	slices.SortStableFunc(old, func(a, b *segment) int { return cmp.Compare(b.prefix.First, a.prefix.First) })
	for _, s := range old {
		if !s.authentic || w.onChain[s] || s.prefix.First > w.From.Number {
			continue
		}
		end, err := w.cursor(s, blockcrypt.SegmentPrefixSize, s.continues).linked(ctx)
		if err != nil {
			return err
		}
		if w.known[end] {
			w.known[s.continues] = true
			w.res.Folded = append(w.res.Folded, s.name)
		}
	}
	return nil
}

// linked follows the batches by their hashes alone and returns where they end.
func (c *cursor) linked(ctx context.Context) (Pos, error) {
	for {
		f, ok, err := c.frame(ctx)
		if err != nil || !ok || f.Number != c.pos.Number+1 || f.Prev != c.pos.Hash {
			return c.pos, err
		}
		b, why, err := c.whole(ctx, c.off)
		if err != nil || why != "" {
			return c.pos, err
		}
		c.pos = Pos{f.Number, sha256.Sum256(b)}
		c.off += padded(len(b))
	}
}

// stranger accounts for a segment that is not on our chain.
func (w *walker) stranger(ctx context.Context, s *segment) error {
	f := Foreign{Name: s.name, Term: s.parsed.Term, Tag: s.tag(), First: s.prefix.First, Reason: s.why}
	f.Retired = s.prefix.First > 0 && s.prefix.Epoch < w.MinEpoch // else there is no prefix
	if !s.authentic {
		c := w.cursor(s, 0, Pos{})
		zero, err := c.src.allZero(ctx, 0)
		if err != nil {
			return err
		}
		if !zero {
			w.res.Foreign = append(w.res.Foreign, f)
			return w.heed(ctx, s, blockcrypt.SegmentPrefixSize)
		}
		w.res.Empty = append(w.res.Empty, s.name)
		return nil
	}
	var err error
	if f.Batches, err = w.hasBatches(ctx, s); err != nil {
		return err
	}
	f.Authentic, f.Continues = s.prefix.Epoch >= w.MinEpoch, s.continues
	f.Reason = "continues no position of the chain"
	switch {
	case !f.Authentic:
		f.Reason = "its key epoch is retired"
	case w.rivals[s] || w.known[s.continues]:
		f.Reason, f.Fork = "continues a position that the chain continues otherwise", f.Batches
	case w.lost(s):
		f.Lost = true
		err = w.heed(ctx, s, blockcrypt.SegmentPrefixSize)
	}
	w.res.Foreign = append(w.res.Foreign, f)
	return err
}

// lost reports whether s is the continuation of a segment of the same term and tag that has lost its end.
func (w *walker) lost(s *segment) bool {
	if s.continues.Number <= w.From.Number {
		return false
	}
	for _, o := range w.segs {
		if o.parsed.Term == s.parsed.Term && o.tag() == s.tag() && o.parsed.Seq < s.parsed.Seq &&
			(w.onChain[o] || !o.authentic) {
			return true
		}
	}
	return false
}

// maxHeed bounds how many bytes are opened in search of batches behind a break, in multiples of the segment's length.
const maxHeed = 4

// heed looks from off on for authentic batches of s, which are not on the chain, and hears what they call durable: if
// that is beyond the end of the chain, the chain is damaged.
func (w *walker) heed(ctx context.Context, s *segment, off int64) error {
	if s.cipher == nil || s.authentic && s.prefix.Epoch < w.MinEpoch {
		return nil
	}
	c := w.cursor(s, (off+blockcrypt.BatchAlign-1)&^(blockcrypt.BatchAlign-1), Pos{})
	for budget := maxHeed * c.src.size; c.off < c.src.size && budget > 0; {
		f, ok, err := c.frame(ctx)
		if err != nil {
			return err
		}
		if ok && f.Number > 0 {
			budget -= f.Padded()
			c.pos = Pos{f.Number - 1, f.Prev}
			why, err := c.step(ctx)
			if err != nil {
				return err
			}
			if why == "" {
				w.hear(s, f.Number, c.rec.durable)
				continue
			}
		}
		c.off += blockcrypt.BatchAlign
	}
	return nil
}

// hear notes that batch number of s calls a position durable. One from after the end of its term tells of what was given
// up when that was decided.
func (w *walker) hear(s *segment, number, durable uint64) {
	if w.past(s, number) {
		return
	}
	w.res.Durable = max(w.res.Durable, durable)
	if durable > w.res.End.Number {
		w.damage(s.name, fmt.Sprintf("batch %d calls batch %d durable; the journal ends at %d", number, durable, w.res.End.Number))
	}
}
