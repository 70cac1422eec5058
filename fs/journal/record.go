package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"envfs/blockcrypt"
)

// The sealed meta record of a batch is: format (1 byte), kind of record (1 byte), durable position (varint), then
//
//	start      number (varint) and hash (32 bytes) of the position that the segment continues
//	batch      count of boxes (varint, 1), then for each box: domain (16 bytes), count of contents (varint), length of
//	           each (varint), deltas up to the end
//	announce   full name of the next segment, its length (varint) before it
//
// The one box that there is today is that of the zero domain; others are refused.

const recordFormat = 0

type recordKind uint8

const (
	recordStart    recordKind = 1
	recordBatch    recordKind = 2
	recordAnnounce recordKind = 3
)

// maxSegmentName bounds the full names of segments.
const maxSegmentName = 128

// record is the decoded meta record of a batch.
type record struct {
	kind      recordKind
	durable   uint64
	continues Pos     // start
	next      string  // announce
	lengths   []int   // batch: of the contents' plaintexts
	deltas    []Delta // batch
}

func appendRecordHead(b []byte, kind recordKind, durable uint64) []byte {
	return binary.AppendUvarint(append(b, recordFormat, byte(kind)), durable)
}

func appendStart(b []byte, durable uint64, at Pos) []byte {
	b = appendRecordHead(b, recordStart, durable)
	return append(binary.AppendUvarint(b, at.Number), at.Hash[:]...)
}

func appendAnnounce(b []byte, durable uint64, next string) []byte {
	return appendBytes(appendRecordHead(b, recordAnnounce, durable), next)
}

func appendBatch(b []byte, batch *Batch) ([]byte, error) {
	if err := batch.check(); err != nil {
		return nil, err
	}
	b = appendRecordHead(b, recordBatch, batch.Durable)
	b = binary.AppendUvarint(b, 1)
	var own blockcrypt.ID
	b = append(b, own[:]...)
	b = binary.AppendUvarint(b, uint64(len(batch.Contents)))
	for _, c := range batch.Contents {
		b = binary.AppendUvarint(b, uint64(len(c)))
	}
	for i := range batch.Deltas {
		var err error
		if b, err = appendDelta(b, &batch.Deltas[i]); err != nil {
			return nil, fmt.Errorf("delta %d: %w", i, err)
		}
	}
	return b, nil
}

// decode replaces r by the record that b holds; it reuses r's slices, not what deltas refer to.
func (r *record) decode(b []byte) error {
	if len(b) > 0 && b[0] != recordFormat {
		return fmt.Errorf("format %d: %w", b[0], blockcrypt.ErrVersion)
	}
	d := decoder{b: b}
	d.byte()
	clear(r.deltas)
	*r = record{kind: recordKind(d.byte()), durable: d.uint64(), lengths: r.lengths[:0], deltas: r.deltas[:0]}
	switch r.kind {
	case recordStart:
		r.continues.Number = d.uint64()
		d.fixed(r.continues.Hash[:])
	case recordAnnounce:
		r.next = string(d.bytes(maxSegmentName))
	case recordBatch:
		r.decodeBox(&d)
	default:
		d.fail("unknown kind of record")
	}
	if d.err == nil && len(d.b) != 0 {
		d.fail("bytes after the end")
	}
	if d.err == nil && r.kind == recordAnnounce {
		if _, err := parseSegmentName(r.next); err != nil {
			d.fail(err.Error())
		}
	}
	return d.err
}

func (r *record) decodeBox(d *decoder) {
	if d.uint64() != 1 {
		d.fail("boxes of other domains")
	}
	var domain blockcrypt.ID
	d.fixed(domain[:])
	if !domain.IsZero() {
		d.fail("box of another domain")
	}
	for n := d.uvarint(maxContents); n > 0 && d.err == nil; n-- {
		size := int(d.uvarint(blockcrypt.BlockSize))
		if size == 0 {
			d.fail("empty content")
		}
		r.lengths = append(r.lengths, size)
	}
	for d.err == nil && len(d.b) > 0 {
		r.deltas = append(r.deltas, d.delta(len(r.lengths)))
	}
}

var errSegmentName = errors.New("no journal segment has such a name")

// parseSegmentName parses the full name of a segment.
func parseSegmentName(s string) (blockcrypt.Name, error) {
	n, err := blockcrypt.ParseName(s)
	if err == nil && n.Kind != blockcrypt.KindSegment {
		err = errSegmentName
	}
	return n, err
}
