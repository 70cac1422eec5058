// Package blob is the format of what the KMS encrypts: the CiphertextBlob of AWS KMS's protocol, which is opaque there.
//
//	version (1 byte: 1) | key id (16) | backing-key id (16) | salt (32) | AES-256-GCM of the plaintext, with tag (n + 16)
//
// The cipher's key is HKDF-SHA-256 (RFC 5869) of the backing key, with the salt, and info "envfs kms blob 1"; its nonce is 12
// zero bytes, as each key is used once. The associated data is all before the salt, followed by the canonical encryption
// context: its pairs ordered by name, each name and each value preceded by its length as big-endian u32.
package blob

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"envfs/kms/internal/envelope"
)

const (
	version    = 1
	use        = "envfs kms blob 1"
	prefixSize = 1 + 2*len(ID{})
	// Overhead is how many bytes longer a blob is than its plaintext.
	Overhead = prefixSize + envelope.Overhead
)

// ErrInvalid says that bytes are no blob, or were altered, or that the key or the context is another.
var ErrInvalid = errors.New("invalid ciphertext")

// ID names a key or a backing key.
type ID [16]byte

// Header is what a blob says in clear. It is authenticated only when the blob is opened.
type Header struct {
	Key     ID // the key
	Backing ID // which of its backing keys
}

// Parse returns the header of a blob, or [ErrInvalid].
func Parse(b []byte) (h Header, err error) {
	if len(b) < Overhead || b[0] != version {
		return h, ErrInvalid
	}
	n := copy(h.Key[:], b[1:])
	copy(h.Backing[:], b[1+n:])
	return h, nil
}

// Seal encrypts plaintext under the backing key that h names.
func Seal(h Header, backing, plaintext []byte, context map[string]string) ([]byte, error) {
	dst := make([]byte, 0, Overhead+len(plaintext))
	dst = h.prefix(dst)
	return envelope.Seal(dst, backing, use, plaintext, h.aad(context))
}

// Open decrypts a blob with the backing key that its header names, or returns [ErrInvalid].
func Open(b, backing []byte, context map[string]string) ([]byte, error) {
	h, err := Parse(b)
	if err != nil {
		return nil, err
	}
	plaintext, err := envelope.Open(backing, use, b[prefixSize:], h.aad(context))
	if errors.Is(err, envelope.ErrOpen) {
		return nil, ErrInvalid
	}
	return plaintext, err
}

func (h Header) prefix(dst []byte) []byte {
	dst = append(dst, version)
	dst = append(dst, h.Key[:]...)
	return append(dst, h.Backing[:]...)
}

func (h Header) aad(context map[string]string) []byte {
	aad := h.prefix(make([]byte, 0, 256))
	for _, name := range slices.Sorted(maps.Keys(context)) {
		aad = appendString(aad, name)
		aad = appendString(aad, context[name])
	}
	return aad
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}
