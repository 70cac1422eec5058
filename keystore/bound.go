package keystore

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"envfs/blockcrypt"
)

// BoundSize is the length in bytes of what [SlotInfo.NewBound] makes.
const BoundSize = blockcrypt.KeySize + sha256.Size

// NewBound makes a W for the slot s and returns it with what a provider that has no associated data of its own wraps:
// W, then the SHA-256 of [SlotInfo.ContextText]. The caller wipes both.
func (s SlotInfo) NewBound() (w, bound []byte) {
	w = make([]byte, blockcrypt.KeySize)
	rand.Read(w) // it never fails: crypto/rand
	sum := sha256.Sum256([]byte(s.ContextText()))
	return w, append(bytes.Clone(w), sum[:]...)
}

// Unbind returns the W in what NewBound made, which stays as it is; the caller wipes both. It returns [ErrRefused] if that
// was made for another vault or domain.
func (s SlotInfo) Unbind(bound []byte) (w []byte, err error) {
	if len(bound) != BoundSize {
		return nil, fmt.Errorf("%w: what was wrapped has %d bytes, not %d", ErrRefused, len(bound), BoundSize)
	}
	sum := sha256.Sum256([]byte(s.ContextText()))
	if subtle.ConstantTimeCompare(sum[:], bound[blockcrypt.KeySize:]) != 1 {
		return nil, fmt.Errorf("%w: it was wrapped for another vault or domain", ErrRefused)
	}
	return bytes.Clone(bound[:blockcrypt.KeySize]), nil
}
