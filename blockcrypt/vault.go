package blockcrypt

import (
	"errors"
	"fmt"
)

// FormatVersion is the version of every object that this package writes: 0, a draft.
const FormatVersion = 0

// Errors that callers act on. They are wrapped with what was opened and why.
var (
	// ErrDamaged says that bytes are not what was once sealed under this name and key.
	ErrDamaged = errors.New("damaged or altered")
	// ErrVersion says that an object was written in a newer format than this program knows.
	ErrVersion = errors.New("written in a newer format")
	// ErrSuite says that this program has no such cipher suite.
	ErrSuite = errors.New("unsupported cipher suite")
)

// Suite is the cipher suite of a vault. It is fixed when the vault is made and enters every derivation.
type Suite uint8

// The cipher suites. XChaCha20Poly1305 is reserved; nothing seals or opens under it yet.
const (
	AES256GCM         Suite = 1
	XChaCha20Poly1305 Suite = 2
)

func (s Suite) check() error {
	if s != AES256GCM {
		return fmt.Errorf("suite %d: %w", s, ErrSuite)
	}
	return nil
}

// Vault is what of a vault enters every derivation. It holds no secret, is comparable and copied freely; its methods
// may be called concurrently.
type Vault struct {
	Suite  Suite
	ID     ID // the vault
	Domain ID // zero: the vault's own domain
}

// KEKs finds key-encryption keys by key epoch. The result belongs to the keyring: it is read at once and never kept.
type KEKs interface {
	KEK(epoch uint32) ([]byte, error)
}
