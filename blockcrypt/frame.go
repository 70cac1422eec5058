package blockcrypt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Sizes in a journal segment, in bytes.
const (
	SegmentPrefixSize = 64
	FrameSize         = 64 // clear frame before each batch's body
	BatchAlign        = 64 // every frame starts at a multiple of this offset
)

// ErrNoFrame says that no batch's frame starts at the bytes given.
var ErrNoFrame = errors.New("no batch frame")

// SegmentPrefix is the clear prefix of a journal segment. Nothing in it is secret or, by itself, authenticated: key
// epoch, term and sequence enter the key of its batches, whose numbers are authenticated.
type SegmentPrefix struct {
	Epoch uint32
	Term  uint64
	Seq   uint64
	First uint64 // number of the segment's first batch
}

// AppendSegmentPrefix appends the SegmentPrefixSize bytes with which a segment begins.
func (v Vault) AppendSegmentPrefix(dst []byte, p SegmentPrefix) []byte {
	var b [SegmentPrefixSize]byte
	putMagic(b[:], KindSegment, v.Suite)
	binary.BigEndian.PutUint32(b[12:], p.Epoch)
	binary.BigEndian.PutUint64(b[16:], p.Term)
	binary.BigEndian.PutUint64(b[24:], p.Seq)
	binary.BigEndian.PutUint64(b[32:], p.First)
	return append(dst, b[:]...)
}

// ParseSegmentPrefix parses the first SegmentPrefixSize bytes of a segment. That term and sequence are those of the
// segment's name is for the caller to check.
func (v Vault) ParseSegmentPrefix(b []byte) (SegmentPrefix, error) {
	if err := checkMagic(b, KindSegment, SegmentPrefixSize); err != nil {
		return SegmentPrefix{}, fmt.Errorf("parse segment: %w", err)
	}
	if b[offSuite] != byte(v.Suite) || !allZero(b[offSuite+1:12]) || !allZero(b[40:SegmentPrefixSize]) {
		return SegmentPrefix{}, fmt.Errorf("parse segment: %w", damaged("suite or reserved bytes"))
	}
	return SegmentPrefix{
		Epoch: binary.BigEndian.Uint32(b[12:]),
		Term:  binary.BigEndian.Uint64(b[16:]),
		Seq:   binary.BigEndian.Uint64(b[24:]),
		First: binary.BigEndian.Uint64(b[32:]),
	}, nil
}

// Frame is the clear frame of a batch.
type Frame struct {
	Number     uint64
	Length     uint32 // of frame and body, without the padding to BatchAlign, in bytes
	MetaLength uint32 // of the sealed meta record, in bytes
	CRC        uint32 // CRC-32C of the body
	Prev       Hash   // hash of the batch before, as claimed; OpenBatch authenticates it
}

// Padded returns how many bytes the batch takes in its segment: Length rounded up to BatchAlign.
func (f Frame) Padded() int64 { return (int64(f.Length) + BatchAlign - 1) &^ (BatchAlign - 1) }

const (
	frameMagic = "envb"

	offPrev     = 24 // what is before goes into the AAD as it is
	offBodyCRC  = 56
	offFrameCRC = 60
)

// appendFrame appends a frame without its checksums.
func appendFrame(dst []byte, f Frame) []byte {
	var b [FrameSize]byte
	copy(b[:], frameMagic)
	binary.BigEndian.PutUint16(b[4:], FormatVersion)
	binary.BigEndian.PutUint32(b[8:], f.Length)
	binary.BigEndian.PutUint32(b[12:], f.MetaLength)
	binary.BigEndian.PutUint64(b[16:], f.Number)
	copy(b[offPrev:], f.Prev[:])
	return append(dst, b[:]...)
}

// finishFrame fills in the checksums of the frame with which the batch b begins.
func finishFrame(b []byte) {
	binary.BigEndian.PutUint32(b[offBodyCRC:], crc32.Checksum(b[FrameSize:], castagnoli))
	binary.BigEndian.PutUint32(b[offFrameCRC:], crc32.Checksum(b[:offFrameCRC], castagnoli))
}

// ParseFrame parses the frame with which b begins: FrameSize bytes and whatever follows. If none does, or it is torn,
// it returns ErrNoFrame.
func ParseFrame(b []byte) (Frame, error) {
	if len(b) < FrameSize || string(b[:4]) != frameMagic ||
		binary.BigEndian.Uint32(b[offFrameCRC:]) != crc32.Checksum(b[:offFrameCRC], castagnoli) {
		return Frame{}, ErrNoFrame
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != FormatVersion {
		return Frame{}, fmt.Errorf("batch frame of format version %d: %w", v, ErrVersion)
	}
	f := Frame{
		Length:     binary.BigEndian.Uint32(b[8:]),
		MetaLength: binary.BigEndian.Uint32(b[12:]),
		Number:     binary.BigEndian.Uint64(b[16:]),
		Prev:       Hash(b[offPrev:offBodyCRC]),
		CRC:        binary.BigEndian.Uint32(b[offBodyCRC:]),
	}
	if b[6] != 0 || b[7] != 0 || f.Length > MaxBatch || f.MetaLength < RecordOverhead ||
		uint64(f.MetaLength)+FrameSize > uint64(f.Length) {
		return Frame{}, ErrNoFrame
	}
	return f, nil
}
