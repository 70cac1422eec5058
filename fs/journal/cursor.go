package journal

import (
	"context"
	"fmt"

	"envfs/blockcrypt"
)

// cursor walks along the batches of one segment.
type cursor struct {
	seg *segment
	src source
	off int64
	pos Pos

	// What the last step found.
	rec   record
	batch []byte // frame and body; valid until the next step
	at    int64  // offset of the frame
	refs  []blockcrypt.ContentRef
	plain [][]byte // see contents
	buf   []byte
}

// step moves on by one batch. If what lies there is not the batch that follows, why says so and c stays; why is
// endOfSegment if nothing lies there.
func (c *cursor) step(ctx context.Context) (why string, err error) {
	if c.off >= c.src.size {
		return endOfSegment, nil
	}
	b, why, err := c.whole(ctx, c.off)
	if why != "" || err != nil {
		return why, err
	}
	at := blockcrypt.BatchPos{
		Term:   c.seg.parsed.Term,
		Number: c.pos.Number + 1,
		Offset: uint64(c.off),
		Prev:   c.pos.Hash,
	}
	meta, hash, err := c.seg.cipher.OpenBatch(at, b)
	if err != nil {
		return err.Error(), nil
	}
	if err := c.rec.decode(meta); err != nil {
		return fmt.Sprintf("open batch %d: %v", at.Number, err), nil
	}
	if why := c.check(at.Number, b); why != "" {
		return fmt.Sprintf("open batch %d: %s", at.Number, why), nil
	}
	c.at, c.batch = c.off, b
	c.off += padded(len(b))
	c.pos = Pos{at.Number, hash}
	return "", nil
}

const endOfSegment = "end of the segment"

func padded(n int) int64 {
	return (int64(n) + blockcrypt.BatchAlign - 1) &^ (blockcrypt.BatchAlign - 1)
}

// whole returns the frame and body of the batch that lies at off, whatever its number, if it is whole.
func (c *cursor) whole(ctx context.Context, off int64) (b []byte, why string, err error) {
	head, err := c.src.window(ctx, off, blockcrypt.FrameSize)
	if err != nil {
		return nil, "", err
	}
	f, err := blockcrypt.ParseFrame(head)
	if err != nil {
		return nil, err.Error(), nil
	}
	if f.Padded() > c.src.size-off {
		return nil, "batch is cut short", nil
	}
	b, err = c.src.window(ctx, off, int(f.Padded()))
	if err != nil {
		return nil, "", err
	}
	if int64(len(b)) < f.Padded() {
		return nil, "batch is cut short", nil
	}
	for _, p := range b[f.Length:] {
		if p != 0 {
			return nil, "padding is not zero", nil
		}
	}
	return b[:f.Length], "", nil
}

// check holds the record just decoded against where it stands.
func (c *cursor) check(number uint64, b []byte) string {
	if c.rec.durable >= number {
		return "it calls itself durable"
	}
	first := c.off == blockcrypt.SegmentPrefixSize
	if first != (c.rec.kind == recordStart) || first && c.rec.continues != c.pos {
		return "start record out of place"
	}
	f, err := blockcrypt.ParseFrame(b)
	if err != nil {
		return err.Error()
	}
	n := int64(blockcrypt.FrameSize) + int64(f.MetaLength)
	for _, l := range c.rec.lengths {
		n += int64(blockcrypt.RecordOverhead + l)
	}
	if n != int64(f.Length) {
		return "contents do not fill it"
	}
	return ""
}

// contents opens the content records of the batch that the last step found, into memory that the next call uses
// again.
func (c *cursor) contents() error {
	c.refs, c.plain, c.buf = nil, c.plain[:0], c.buf[:0]
	if len(c.rec.lengths) == 0 {
		return nil
	}
	c.refs = make([]blockcrypt.ContentRef, len(c.rec.lengths))
	total, off := 0, len(c.batch)
	for _, l := range c.rec.lengths {
		total += l
		off -= blockcrypt.RecordOverhead + l
	}
	if cap(c.buf) < total {
		c.buf = make([]byte, 0, total)
	}
	for i, l := range c.rec.lengths {
		ref := blockcrypt.ContentRef{Batch: c.pos.Number, Offset: uint64(c.at) + uint64(off), Length: uint32(l), Index: uint32(i)}
		n := len(c.buf)
		out, err := c.seg.cipher.OpenContent(c.buf, ref, c.batch[off:off+ref.RecordLength()])
		if err != nil {
			return err
		}
		c.buf, c.refs[i] = out, ref
		c.plain = append(c.plain, out[n:len(out):len(out)])
		off += ref.RecordLength()
	}
	return nil
}
