// Package blockcrypt turns what envfs keeps into bytes for the store and back: object names, key derivations, sealed
// objects, extents, inline blocks, journal batches, fold records and the root. It does no I/O, reads no clock and
// writes no log; randomness is passed in. docs/FORMAT.md describes every byte.
package blockcrypt

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ID names a vault, domain, directory or file: 128 random bits.
type ID [16]byte

// Hash is the SHA-256 of a whole object.
type Hash [sha256.Size]byte

// R tells apart what several attempts or several writers made: the term's 40-bit tag, then 64 random bits.
type R [13]byte

// Tag is the random tag of one term.
type Tag [5]byte

// Version is what distinguishes two objects of one owner: the number of the first fold that could name the object
// (its birth) and the R of the attempt that made it.
type Version struct {
	Birth uint64
	R     R
}

// Ref is a reference to an object whose owner and kind follow from where the reference stands: version and SHA-256 of
// the whole object. The zero Ref refers to nothing.
type Ref struct {
	Version Version
	Hash    Hash
}

// IsZero reports whether r refers to nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// Tag returns the tag of the term that drew r.
func (r R) Tag() Tag { return Tag(r[:5]) }

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var errNotCanonical = errors.New("not canonical base32")

// maxBase32 is the length of the longest text in base32, an ID.
const maxBase32 = 26

// decodeBase32 decodes s into dst, of at most 16 bytes, which it must fill exactly; it accepts the one canonical spelling
// only. After an error dst holds nothing of use.
func decodeBase32(dst []byte, s string) error {
	if len(s) != base32Lower.EncodedLen(len(dst)) {
		return errNotCanonical
	}
	var text, again [maxBase32]byte
	n, err := base32Lower.Decode(again[:], append(text[:0], s...))
	if err != nil || n != len(dst) {
		return errNotCanonical
	}
	copy(dst, again[:n])
	if string(base32Lower.AppendEncode(again[:0], dst)) != s {
		return errNotCanonical
	}
	return nil
}

// String returns the 26 lower-case base32 characters of id.
func (id ID) String() string { return base32Lower.EncodeToString(id[:]) }

// String returns the 21 lower-case base32 characters of r.
func (r R) String() string { return base32Lower.EncodeToString(r[:]) }

// String returns the 8 lower-case base32 characters of t.
func (t Tag) String() string { return base32Lower.EncodeToString(t[:]) }

// String returns h in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether id is the zero id, which names nothing that is stored.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID is the inverse of [ID.String]; it accepts nothing else.
func ParseID(s string) (id ID, err error) {
	if err := decodeBase32(id[:], s); err != nil {
		return ID{}, fmt.Errorf("parse id %q: %w", s, err)
	}
	return id, nil
}

// NewID draws an ID from rnd.
func NewID(rnd io.Reader) (id ID, err error) {
	_, err = io.ReadFull(rnd, id[:])
	return id, err
}

// NewR draws the R of one attempt under the term with tag t.
func NewR(rnd io.Reader, t Tag) (r R, err error) {
	copy(r[:], t[:])
	_, err = io.ReadFull(rnd, r[len(t):])
	return r, err
}

// Sum returns the SHA-256 of the whole object b.
func Sum(b []byte) Hash { return sha256.Sum256(b) }
