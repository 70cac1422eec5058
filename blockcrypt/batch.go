package blockcrypt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// MaxBatch is the largest batch (frame and body) in bytes.
const MaxBatch = 64 << 20

// BatchPos is where a batch stands. All of it is authenticated.
type BatchPos struct {
	Term   uint64
	Number uint64
	Offset uint64 // of its frame in the segment, in bytes: a multiple of BatchAlign
	Prev   Hash   // hash of the batch before
}

// ContentRef is where a content record lies in a segment.
type ContentRef struct {
	Batch  uint64 // number of its batch
	Offset uint64 // of the record in the segment, in bytes
	Length uint32 // of the plaintext, in bytes
	Index  uint32 // of the record in its batch
}

// RecordLength returns the length of the sealed record in bytes.
func (r ContentRef) RecordLength() int { return RecordOverhead + int(r.Length) }

// SegmentCipher seals and opens the batches of one segment. It is safe for concurrent use.
type SegmentCipher struct {
	s    sealer
	term uint64
}

// NewSegmentCipher returns the cipher of the segment of that full name. kek is the KEK of epoch.
func (v Vault) NewSegmentCipher(kek []byte, epoch uint32, name string) (*SegmentCipher, error) {
	if err := v.Suite.check(); err != nil {
		return nil, fmt.Errorf("make cipher of %s: %w", name, err)
	}
	n, err := ParseName(name)
	if err != nil || n.Kind != KindSegment {
		return nil, fmt.Errorf("make cipher of %s: not the name of a segment", name)
	}
	s, err := v.sealer(kek, "batch", epoch, name)
	if err != nil {
		return nil, fmt.Errorf("make cipher of %s: %w", name, err)
	}
	return &SegmentCipher{s: s, term: n.Term}, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batchAAD binds a batch to its frame, apart from the checksums, and to its place.
func batchAAD(frame []byte, pos *BatchPos) []byte {
	return Context("batch", frame[:offPrev], U64(pos.Term), U64(pos.Number), U64(pos.Offset), pos.Prev[:])
}

func contentAAD(ref *ContentRef) []byte {
	return Context("content", U64(ref.Batch), U64(ref.Offset), U32(ref.Index), U32(ref.Length))
}

// SealBatch appends to dst the frame at pos, the body and zeros up to a multiple of BatchAlign. meta and each of contents
// become sealed records of their own. hash is the batch's, for the next one's position; where tells, for each of
// contents, where its record lies.
func (c *SegmentCipher) SealBatch(dst []byte, rnd io.Reader, pos BatchPos, meta []byte, contents [][]byte) (out []byte, hash Hash, where []ContentRef, err error) {
	out, hash, where, err = c.sealBatch(dst, rnd, &pos, meta, contents)
	if err != nil {
		return dst, Hash{}, nil, fmt.Errorf("seal batch %d: %w", pos.Number, err)
	}
	return out, hash, where, nil
}

func (c *SegmentCipher) sealBatch(dst []byte, rnd io.Reader, pos *BatchPos, meta []byte, contents [][]byte) ([]byte, Hash, []ContentRef, error) {
	if err := c.checkPos(pos); err != nil {
		return nil, Hash{}, nil, err
	}
	length := FrameSize + RecordOverhead + len(meta)
	for _, p := range contents {
		length += RecordOverhead + len(p)
	}
	if length > MaxBatch {
		return nil, Hash{}, nil, fmt.Errorf("%d bytes are too many for one batch", length)
	}
	start := len(dst)
	b := appendFrame(dst, Frame{
		Number:     pos.Number,
		Length:     uint32(length),
		MetaLength: uint32(RecordOverhead + len(meta)),
		Prev:       pos.Prev,
	})
	b, err := c.s.seal(b, rnd, meta, batchAAD(b[start:], pos))
	if err != nil {
		return nil, Hash{}, nil, err
	}
	var where []ContentRef
	if len(contents) > 0 {
		where = make([]ContentRef, len(contents))
	}
	for i, p := range contents {
		ref := ContentRef{
			Batch:  pos.Number,
			Offset: pos.Offset + uint64(len(b)-start),
			Length: uint32(len(p)),
			Index:  uint32(i),
		}
		if b, err = c.s.seal(b, rnd, p, contentAAD(&ref)); err != nil {
			return nil, Hash{}, nil, err
		}
		where[i] = ref
	}
	finishFrame(b[start:])
	hash := Hash(sha256.Sum256(b[start:]))
	for pad := -length & (BatchAlign - 1); pad > 0; pad-- {
		b = append(b, 0)
	}
	return b, hash, where, nil
}

func (c *SegmentCipher) checkPos(pos *BatchPos) error {
	if pos.Term != c.term || pos.Offset < SegmentPrefixSize || pos.Offset%BatchAlign != 0 {
		return errors.New("no batch of this segment stands there")
	}
	return nil
}

// OpenBatch opens the batch that b (its frame and body, without padding) holds at pos, and returns its meta record and
// its hash. A batch that was found by scanning, so that the one before is not known, is opened with its own frame's
// Prev in pos: it then is authentic, at this place of this segment, and was sealed after a batch with that hash.
func (c *SegmentCipher) OpenBatch(pos BatchPos, b []byte) (meta []byte, hash Hash, err error) {
	meta, err = c.openBatch(&pos, b)
	if err != nil {
		return nil, Hash{}, fmt.Errorf("open batch %d: %w", pos.Number, err)
	}
	return meta, sha256.Sum256(b), nil
}

func (c *SegmentCipher) openBatch(pos *BatchPos, b []byte) ([]byte, error) {
	f, err := ParseFrame(b)
	if errors.Is(err, ErrNoFrame) {
		err = damaged(err.Error())
	}
	if err != nil {
		return nil, err
	}
	if uint64(f.Length) != uint64(len(b)) {
		return nil, damaged("length")
	}
	if crc32.Checksum(b[FrameSize:], castagnoli) != f.CRC {
		return nil, damaged("checksum")
	}
	if err := c.checkPos(pos); err != nil {
		return nil, damaged(err.Error())
	}
	if f.Number != pos.Number || f.Prev != pos.Prev {
		return nil, damaged("not the batch that follows")
	}
	return c.s.open(nil, b[FrameSize:FrameSize+f.MetaLength], batchAAD(b, pos))
}

// OpenContent appends the plaintext of the content record, which lies at ref, to dst.
func (c *SegmentCipher) OpenContent(dst []byte, ref ContentRef, record []byte) ([]byte, error) {
	if len(record) != ref.RecordLength() {
		return dst, fmt.Errorf("open content of batch %d: %w", ref.Batch, damaged("length"))
	}
	out, err := c.s.open(dst, record, contentAAD(&ref))
	if err != nil {
		return dst, fmt.Errorf("open content of batch %d: %w", ref.Batch, err)
	}
	return out, nil
}
