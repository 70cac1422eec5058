package blockcrypt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// MinNameHash is the least [NameHash]: what is below stands for the directory's beginning, "." and "..".
const MinNameHash = 3

// NameHash returns where a name stands in its directory: the first 62 bits of HMAC-SHA-256(salt, name), with 0, 1 and 2
// moved to 3, 4 and 5.
func NameHash(salt *[16]byte, name string) uint64 { return NewNameHasher(salt).Hash(name) }

// NameHasher is NameHash for many names of one directory, at less cost. It is for one goroutine at a time.
type NameHasher struct {
	mac hash.Hash
	buf []byte // of the name, then of the sum
}

// NewNameHasher returns the NameHasher of a directory.
func NewNameHasher(salt *[16]byte) *NameHasher {
	return &NameHasher{mac: hmac.New(sha256.New, salt[:])}
}

// Hash returns the NameHash of a name.
func (h *NameHasher) Hash(name string) uint64 {
	h.mac.Reset()
	h.buf = append(h.buf[:0], name...)
	h.mac.Write(h.buf)
	h.buf = h.mac.Sum(h.buf[:0])
	n := binary.BigEndian.Uint64(h.buf) >> 2
	if n < MinNameHash {
		n += MinNameHash
	}
	return n
}

// maxHash is the largest NameHash.
const maxHash = 1<<62 - 1

// ShardRef is one line of an index's shard table.
type ShardRef struct {
	From  uint64 // first NameHash that belongs to the shard
	Names uint32 // how many names it holds
	Ref   PageRef
}

// Index is the content of a directory's index object. Exactly one of Shards and Leaf is set.
type Index struct {
	Salt   [16]byte   // key of the order of names
	Names  uint32     // in all
	Xattrs []Xattr    // the directory's, if its entry says that they lie here
	Shards []ShardRef // sorted by From; the first From is 0
	Leaf   *Shard     // all entries
}

// maxShards bounds a shard table.
const maxShards = 1 << 20

// check reports what of ix cannot be stored.
func (ix *Index) check() error {
	if err := checkXattrs(ix.Xattrs, MaxXattrs); err != nil {
		return err
	}
	if (ix.Leaf == nil) == (len(ix.Shards) == 0) {
		return errors.New("neither or both of entries and shards")
	}
	if ix.Leaf != nil && uint64(ix.Names) != uint64(ix.Leaf.Len()) {
		return errors.New("count of names")
	}
	if len(ix.Shards) > maxShards {
		return errors.New("too many shards")
	}
	names := uint64(0)
	for i := range ix.Shards {
		s := &ix.Shards[i]
		if i == 0 && s.From != 0 || i > 0 && s.From <= ix.Shards[i-1].From || s.From > maxHash || s.Ref.IsZero() {
			return errors.New("shards not in order")
		}
		names += uint64(s.Names)
	}
	if ix.Leaf == nil && names != uint64(ix.Names) {
		return errors.New("count of names")
	}
	return nil
}

// EncodeIndex returns the body of an index object: [salt, names, xattrs, shards], where shards is an array of
// [from, names, reference], or a byte string that is the body of the only shard.
func EncodeIndex(ix *Index) ([]byte, error) {
	if err := ix.check(); err != nil {
		return nil, fmt.Errorf("encode index: %w", err)
	}
	b := make([]byte, 0, 64+xattrsSize(ix.Xattrs)+80*len(ix.Shards)+ix.Leaf.Size())
	b = appendBytes(appendArray(b, 4), ix.Salt[:])
	b = appendXattrs(appendUint(b, uint64(ix.Names)), ix.Xattrs)
	if ix.Leaf != nil {
		return appendBytes(b, ix.Leaf.body), nil
	}
	b = appendArray(b, len(ix.Shards))
	for i := range ix.Shards {
		s := &ix.Shards[i]
		b = appendUint(appendUint(appendArray(b, 3), s.From), uint64(s.Names))
		b = appendPageRef(b, &s.Ref)
	}
	return b, nil
}

// DecodeIndex is the inverse of [EncodeIndex]. The result keeps body.
func DecodeIndex(body []byte) (*Index, error) {
	d := decoder{b: body}
	ix := new(Index)
	d.tuple(4)
	d.fixed(ix.Salt[:])
	ix.Names = d.uint32()
	ix.Xattrs = d.xattrs(MaxXattrs)
	if len(d.b) > 0 && d.b[0]>>5 == majorBytes {
		leaf, err := DecodeShard(d.bytes(0, MaxBody))
		if d.err == nil && err != nil {
			d.fail(err.Error())
		}
		ix.Leaf = leaf
	} else {
		ix.Shards = d.shardRefs()
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("decode index: %w", err)
	}
	if err := ix.check(); err != nil {
		return nil, fmt.Errorf("decode index: %w", damaged(err.Error()))
	}
	return ix, nil
}

func (d *decoder) shardRefs() []ShardRef {
	n := d.array(maxShards)
	refs := make([]ShardRef, 0, min(n, len(d.b)/60+1)) // a line is never shorter
	for ; n > 0 && d.err == nil; n-- {
		d.tuple(3)
		s := ShardRef{From: d.uint(maxHash), Names: d.uint32()}
		s.Ref = d.pageRef()
		refs = append(refs, s)
	}
	return refs
}
