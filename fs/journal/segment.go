package journal

import (
	"context"
	"fmt"

	"envfs/blockcrypt"
	"envfs/remote"
)

// output is a segment that is being written.
type output struct {
	name   string
	file   remote.File
	epoch  uint32
	seq    uint64
	cipher *blockcrypt.SegmentCipher

	reserved  int64 // length in bytes up to which the store has space for it
	unbounded bool  // the store cannot say

	// What was appended. Until the first batch not even the prefix is there.
	size  int64 // bytes
	seals int
	last  uint64 // number of the last batch
}

// create makes the next segment, empty, and its name durable.
func (w *Writer) create(ctx context.Context) (*output, error) {
	r, err := blockcrypt.NewR(w.cfg.Rand, w.cfg.Tag)
	if err != nil {
		return nil, fmt.Errorf("draw a segment's name: %w", err)
	}
	o := &output{epoch: w.cfg.Keys.Newest(), seq: w.seq}
	o.name = blockcrypt.Name{Kind: blockcrypt.KindSegment, Term: w.cfg.Term, Seq: o.seq, R: r}.String()
	kek, err := w.cfg.Keys.KEK(o.epoch)
	if err != nil {
		return nil, fmt.Errorf("make segment %s: %w", o.name, err)
	}
	if o.cipher, err = w.cfg.Vault.NewSegmentCipher(kek, o.epoch, o.name); err != nil {
		return nil, fmt.Errorf("make segment %s: %w", o.name, err)
	}
	if o.file, err = w.cfg.Store.Create(ctx, o.name); err != nil {
		return nil, fmt.Errorf("make segment %s: %w", o.name, err)
	}
	w.seq++
	if err := w.cfg.Store.Sync(ctx); err != nil {
		o.file.Close()
		return nil, w.stick(fmt.Errorf("make segment %s: %w", o.name, err))
	}
	return o, nil
}

// sealed is what one or two batches have become.
type sealed struct {
	bytes    []byte
	end      Pos
	seals    int
	contents []blockcrypt.ContentRef
}

// seal seals one batch for o, behind what s holds already.
func (w *Writer) seal(o *output, s *sealed, meta []byte, contents [][]byte) error {
	at := blockcrypt.BatchPos{
		Term:   w.cfg.Term,
		Number: s.end.Number + 1,
		Offset: uint64(o.size) + uint64(len(s.bytes)),
		Prev:   s.end.Hash,
	}
	out, hash, where, err := o.cipher.SealBatch(s.bytes, w.cfg.Rand, at, meta, contents)
	if err != nil {
		return fmt.Errorf("seal batch %d: %w", at.Number, err)
	}
	s.bytes, s.end, s.contents = out, Pos{at.Number, hash}, where
	s.seals += 1 + len(contents)
	return nil
}

// begin seals the prefix and the start record of a segment that is still empty.
func (w *Writer) begin(o *output, s *sealed) error {
	s.bytes = w.cfg.Vault.AppendSegmentPrefix(s.bytes, blockcrypt.SegmentPrefix{
		Epoch: o.epoch, Term: w.cfg.Term, Seq: o.seq, First: s.end.Number + 1,
	})
	w.ownMeta = appendStart(w.ownMeta[:0], w.claimed, s.end)
	return w.seal(o, s, w.ownMeta, nil)
}
