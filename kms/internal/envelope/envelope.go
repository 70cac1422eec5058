// Package envelope seals bytes under a secret of 32 bytes, each time under a key of its own.
package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

const (
	// SecretSize is the size of a secret in bytes.
	SecretSize = 32
	saltSize   = 32
	tagSize    = 16
	// Overhead is how many bytes longer what is sealed is than its plaintext.
	Overhead = saltSize + tagSize
)

// ErrOpen says that bytes were not sealed under this secret, for this use and with this associated data, or were
// altered since.
var ErrOpen = errors.New("cannot be authenticated")

// Seal appends to dst 32 random bytes, and the plaintext in AES-256-GCM under the key that HKDF-SHA-256 (RFC 5869)
// derives from the secret with these bytes as salt and use as info. A key seals one plaintext, so the nonce is zero.
func Seal(dst, secret []byte, use string, plaintext, aad []byte) ([]byte, error) {
	var salt [saltSize]byte
	rand.Read(salt[:])
	aead, err := derive(secret, salt[:], use)
	if err != nil {
		return nil, err
	}
	dst = append(dst, salt[:]...)
	return aead.Seal(dst, make([]byte, aead.NonceSize()), plaintext, aad), nil
}

// Open returns what [Seal] sealed. The only error that depends on sealed is [ErrOpen].
func Open(secret []byte, use string, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, ErrOpen
	}
	aead, err := derive(secret, sealed[:saltSize], use)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed[saltSize:], aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

func derive(secret, salt []byte, use string) (cipher.AEAD, error) {
	if len(secret) != SecretSize {
		return nil, fmt.Errorf("derive key: secret of %d bytes, not %d", len(secret), SecretSize)
	}
	key, err := hkdf.Key(sha256.New, secret, salt, use, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return cipher.NewGCM(block)
}
