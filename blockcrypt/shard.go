package blockcrypt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

// MaxShardNames is the largest number of entries in one shard.
const MaxShardNames = 1 << 16

// slotSize is the length of one line of a shard's offset table in bytes: NameHash, offset of the entry.
const slotSize = 8 + 4

// Shard holds the entries of a directory, or of a range of their hashes, as they are stored: a count (u32), an offset
// table {NameHash u64, offset u32 from the table's end}, the entries. It is searched without being decoded. A nil
// Shard has no entries. It never changes, so it may be used concurrently.
type Shard struct {
	body  []byte
	table []byte // part of body
	data  []byte // part of body
}

// EncodeShard returns the body of a shard object with these entries, sorted by (NameHash, Name).
func EncodeShard(salt *[16]byte, sorted []Entry) ([]byte, error) {
	if len(sorted) > MaxShardNames {
		return nil, errors.New("encode shard: too many entries")
	}
	b := make([]byte, 4+slotSize*len(sorted), 4+(slotSize+192)*len(sorted))
	binary.BigEndian.PutUint32(b, uint32(len(sorted)))
	start := len(b)
	last := uint64(0)
	hasher := NewNameHasher(salt)
	for i := range sorted {
		e := &sorted[i]
		h := hasher.Hash(e.Name)
		if h < last || h == last && e.Name <= sorted[i-1].Name {
			return nil, errors.New("encode shard: entries not in order")
		}
		last = h
		if err := e.Check(); err != nil {
			return nil, fmt.Errorf("encode shard: %w", err)
		}
		if e.Type != TypeSymlink && xattrsSize(e.Xattrs) > MaxInlineXattrs {
			return nil, errors.New("encode shard: extended attributes too long for an index")
		}
		slot := b[4+slotSize*i:]
		binary.BigEndian.PutUint64(slot, h)
		binary.BigEndian.PutUint32(slot[8:], uint32(len(b)-start))
		if b = appendEntry(b, e); len(b) > MaxBody-64 {
			return nil, errors.New("encode shard: entries too long")
		}
	}
	return b, nil
}

// DecodeShard checks the offset table of a body that EncodeShard made; entries are checked when they are read. The
// result keeps body.
func DecodeShard(body []byte) (*Shard, error) {
	s := &Shard{body: body}
	if err := s.split(); err != nil {
		return nil, fmt.Errorf("decode shard: %w", err)
	}
	return s, nil
}

func (s *Shard) split() error {
	if len(s.body) < 4 || len(s.body) > MaxBody {
		return damaged("length")
	}
	n := binary.BigEndian.Uint32(s.body)
	if n > MaxShardNames || len(s.body) < 4+slotSize*int(n) {
		return damaged("count of entries")
	}
	s.table = s.body[4 : 4+slotSize*int(n)]
	s.data = s.body[4+slotSize*int(n):]
	next := 0 // where the entry begins at the earliest
	last := uint64(MinNameHash)
	for i := range int(n) {
		h, off := s.HashAt(i), s.offset(i)
		if h < last || h > maxHash || off < next || i == 0 && off != 0 || off >= len(s.data) {
			return damaged("offset table")
		}
		last, next = h, off+1
	}
	if n == 0 && len(s.data) != 0 {
		return damaged("bytes after the end")
	}
	return nil
}

// Len returns the number of entries.
func (s *Shard) Len() int {
	if s == nil {
		return 0
	}
	return len(s.table) / slotSize
}

// Size returns how many bytes the shard holds.
func (s *Shard) Size() int {
	if s == nil {
		return 0
	}
	return len(s.body)
}

// HashAt returns the NameHash of the i-th entry, 0 <= i < Len().
func (s *Shard) HashAt(i int) uint64 { return binary.BigEndian.Uint64(s.table[slotSize*i:]) }

func (s *Shard) offset(i int) int { return int(binary.BigEndian.Uint32(s.table[slotSize*i+8:])) }

// stored returns the stored form of the i-th entry.
func (s *Shard) stored(i int) []byte {
	if i+1 < s.Len() {
		return s.data[s.offset(i):s.offset(i+1)]
	}
	return s.data[s.offset(i):]
}

// Entry returns the i-th entry, 0 <= i < Len(). It shares no memory with the shard.
func (s *Shard) Entry(i int) (Entry, error) {
	var e Entry
	if err := s.entry(i, &e, ""); err != nil {
		return Entry{}, err
	}
	return e, nil
}

func (s *Shard) entry(i int, e *Entry, known string) error {
	d := decoder{b: s.stored(i)}
	d.entry(e, known)
	if err := d.end(); err != nil {
		return fmt.Errorf("decode entry %d of a shard: %w", i, err)
	}
	return nil
}

// Search returns the first i with HashAt(i) >= h, or Len().
func (s *Shard) Search(h uint64) int {
	return sort.Search(s.Len(), func(i int) bool { return s.HashAt(i) >= h })
}

// Find returns the entry of that name, whose NameHash is h, if there is one.
func (s *Shard) Find(h uint64, name string) (e Entry, ok bool, err error) {
	for i := s.Search(h); i < s.Len() && s.HashAt(i) == h; i++ {
		d := decoder{b: s.stored(i)}
		_, found := d.entryName()
		if d.err != nil {
			return Entry{}, false, fmt.Errorf("decode entry %d of a shard: %w", i, d.err)
		}
		if string(found) != name {
			continue
		}
		if err := s.entry(i, &e, name); err != nil {
			return Entry{}, false, err
		}
		return e, true, nil
	}
	return Entry{}, false, nil
}
