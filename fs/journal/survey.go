package journal

import (
	"cmp"
	"context"
	"crypto/sha256"
	"math"
	"slices"

	"envfs/blockcrypt"
	"envfs/remote"
)

// segment is what is known of a segment before its batches are read.
type segment struct {
	name   string
	parsed blockcrypt.Name
	size   int64
	prefix blockcrypt.SegmentPrefix
	cipher *blockcrypt.SegmentCipher // nil: no key for it

	authentic bool // the first record is a start record sealed under this name
	continues Pos
	durable   uint64 // what the start record calls durable
	why       string // if it is not authentic
}

// tag returns the term's tag.
func (s *segment) tag() blockcrypt.Tag { return s.parsed.R.Tag() }

// survey lists the segments and reads how each begins.
func (r *Replay) survey(ctx context.Context) (*walker, error) {
	w := &walker{
		Replay: r,
		byName: make(map[string]*segment),
		starts: make(map[Pos][]*segment),
	}
	w = w.fresh()
	err := r.Store.List(ctx, "journal/", func(i remote.Info) error {
		n, err := parseSegmentName(i.Name)
		if err != nil {
			w.misnamed = append(w.misnamed, i.Name)
			return nil
		}
		w.segs = append(w.segs, &segment{name: i.Name, parsed: n, size: min(i.Size, MaxLength)})
		if n.Seq < math.MaxUint64 {
			w.res.NextSeq[n.Term] = max(w.res.NextSeq[n.Term], n.Seq+1)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(w.misnamed)
	slices.SortFunc(w.segs, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.parsed.Term, b.parsed.Term), cmp.Compare(a.parsed.Seq, b.parsed.Seq), cmp.Compare(a.name, b.name))
	})
	for _, s := range w.segs {
		if err := w.open(ctx, s); err != nil {
			return nil, err
		}
		w.byName[s.name] = s
		if s.authentic {
			w.starts[s.continues] = append(w.starts[s.continues], s)
		}
	}
	return w, nil
}

// open reads the prefix and the start record of s.
func (w *walker) open(ctx context.Context, s *segment) error {
	c := w.cursor(s, blockcrypt.SegmentPrefixSize, Pos{})
	c.src.ahead = headBytes
	p, err := c.src.window(ctx, 0, blockcrypt.SegmentPrefixSize)
	if err != nil {
		return err
	}
	epoch := w.MinEpoch // a guess, for what may lie behind a broken prefix
	prefix, err := w.Vault.ParseSegmentPrefix(p)
	switch {
	case err != nil:
		s.why = err.Error()
	case prefix.Term != s.parsed.Term || prefix.Seq != s.parsed.Seq:
		s.why = "the prefix is another segment's"
	default:
		s.prefix, epoch = prefix, prefix.Epoch
	}
	kek, err := w.Keys.KEK(epoch)
	if err == nil {
		s.cipher, err = w.Vault.NewSegmentCipher(kek, epoch, s.name)
	}
	if err != nil && s.why == "" {
		s.why = err.Error()
	}
	if s.why != "" {
		return nil
	}
	s.why, err = w.openStart(ctx, c)
	s.authentic = s.why == "" && err == nil
	return err
}

// openStart reads the start record, whose claim of what it continues is believed if it is authentic.
func (w *walker) openStart(ctx context.Context, c *cursor) (why string, err error) {
	b, err := c.src.window(ctx, c.off, blockcrypt.FrameSize)
	if err != nil {
		return "", err
	}
	f, err := blockcrypt.ParseFrame(b)
	if err != nil {
		return err.Error(), nil
	}
	if f.Number != c.seg.prefix.First || f.Number == 0 || f.Length > headBytes {
		return "no start record", nil
	}
	c.pos = Pos{f.Number - 1, f.Prev}
	if why, err = c.step(ctx); err == nil && why == "" {
		c.seg.continues, c.seg.durable = c.rec.continues, c.rec.durable
	}
	return why, err
}

// cursor returns a cursor at off of s, behind position pos.
func (w *walker) cursor(s *segment, off int64, pos Pos) *cursor {
	return &cursor{
		seg: s,
		src: source{store: w.Store, name: s.name, size: s.size, ahead: readAhead},
		off: off,
		pos: pos,
	}
}

// locate returns a cursor behind the batch that From names, or nil if no segment holds it.
func (w *walker) locate(ctx context.Context) (*cursor, error) {
	if w.From == (Pos{}) {
		return nil, nil
	}
	// Those that can hold it first, the latest before others; then those whose beginning is damaged.
	order := slices.Clone(w.segs)
	slices.SortStableFunc(order, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(w.unlikely(a), w.unlikely(b)), cmp.Compare(b.prefix.First, a.prefix.First))
	})
	for _, s := range order {
		if s.cipher == nil || s.authentic && s.prefix.First > w.From.Number {
			continue
		}
		c := w.cursor(s, blockcrypt.SegmentPrefixSize, Pos{})
		found, err := c.find(ctx, w.From)
		if err != nil {
			return nil, err
		}
		if found {
			return c, nil
		}
	}
	return nil, nil
}

func (w *walker) unlikely(s *segment) int {
	if s.authentic {
		return 0
	}
	return 1
}

// find moves c behind the batch that pos names.
func (c *cursor) find(ctx context.Context, pos Pos) (bool, error) {
	for c.off < c.src.size {
		f, ok, err := c.frame(ctx)
		if err != nil {
			return false, err
		}
		if ok && f.Number == pos.Number {
			b, why, err := c.whole(ctx, c.off)
			if err != nil {
				return false, err
			}
			if why == "" && sha256.Sum256(b) == pos.Hash {
				n := padded(len(b))
				c.pos = Pos{f.Number - 1, f.Prev}
				if why, err = c.step(ctx); why != "" { // its hash is right: what it says is not needed
					c.rec = record{}
					c.off, c.pos = c.off+n, pos
				}
				return err == nil, err
			}
		}
		c.skip(f, ok)
	}
	return false, nil
}

// frame returns the frame at c, if there is one.
func (c *cursor) frame(ctx context.Context) (f blockcrypt.Frame, ok bool, err error) {
	b, err := c.src.window(ctx, c.off, blockcrypt.FrameSize)
	if err != nil {
		return f, false, err
	}
	f, perr := blockcrypt.ParseFrame(b)
	return f, perr == nil, nil
}

// skip moves c to where the next frame may be.
func (c *cursor) skip(f blockcrypt.Frame, ok bool) {
	if ok && f.Padded() <= c.src.size-c.off {
		c.off += f.Padded()
		return
	}
	c.off += blockcrypt.BatchAlign
}
