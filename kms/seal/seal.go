// Package seal protects the root secret of a KMS while it rests: under a passphrase, under a key in a file, or under a
// master key that somebody else holds: a TPM, an HSM, another KMS. Each kind makes a record of the secret that tells
// nothing without what opens it; the record lies beside what the secret protects.
package seal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"envfs/kms/internal/envelope"
)

// The kinds.
const (
	KindPassphrase = "passphrase"
	KindKeyFile    = "keyfile"
)

// ErrWrong says that a passphrase or key does not open the record, or that the record was altered.
var ErrWrong = errors.New("wrong passphrase or key")

const (
	useKeyFile    = "envfs kms seal keyfile 1"
	usePassphrase = "envfs kms seal passphrase 1"
)

// KeyFile seals under a key of 32 bytes. It works until its owner wipes the key.
type KeyFile struct{ key []byte }

// NewKeyFile returns a seal under key, which it does not copy.
func NewKeyFile(key []byte) (*KeyFile, error) {
	if len(key) != envelope.SecretSize {
		return nil, fmt.Errorf("key file: %d bytes, not %d", len(key), envelope.SecretSize)
	}
	return &KeyFile{key}, nil
}

// Kind returns [KindKeyFile].
func (k *KeyFile) Kind() string { return KindKeyFile }

// Seal returns a record of the secret.
func (k *KeyFile) Seal(_ context.Context, _ [16]byte, secret []byte) ([]byte, error) {
	return envelope.Seal(nil, k.key, useKeyFile, secret, nil)
}

// Unseal returns the secret, which the caller wipes, or [ErrWrong].
func (k *KeyFile) Unseal(_ context.Context, _ [16]byte, record []byte) ([]byte, error) {
	return open(k.key, useKeyFile, record)
}

func open(key []byte, use string, record []byte) ([]byte, error) {
	return openWith(key, use, record, nil)
}

func openWith(key []byte, use string, record, aad []byte) ([]byte, error) {
	secret, err := envelope.Open(key, use, record, aad)
	if errors.Is(err, envelope.ErrOpen) {
		return nil, ErrWrong
	}
	return secret, err
}

// Cost is what trying a passphrase costs: the parameters of Argon2id (RFC 9106).
type Cost struct {
	MemoryKiB   uint32 `json:"memory_kib"`
	Passes      uint32 `json:"passes"`
	Parallelism uint8  `json:"parallelism"`
}

// A Deriver computes Argon2id (RFC 9106, version 0x13, 32 bytes, no secret, no associated data). It refuses costs that no
// passphrase of its user has: they may come from a record that was altered.
type Deriver interface {
	Argon2id(ctx context.Context, pass, salt []byte, memKiB, passes uint32, par uint8) ([32]byte, error)
}

// Passphrase seals under a passphrase. It works until its owner wipes the passphrase.
type Passphrase struct {
	pass    []byte
	cost    Cost
	deriver Deriver
}

// NewPassphrase returns a seal under pass, which it does not copy. cost is that of records that it makes.
func NewPassphrase(pass []byte, cost Cost, d Deriver) *Passphrase {
	return &Passphrase{pass, cost, d}
}

// Kind returns [KindPassphrase].
func (p *Passphrase) Kind() string { return KindPassphrase }

// passphraseRecord is the record of a secret under a passphrase, in JSON.
type passphraseRecord struct {
	Cost
	Salt   []byte `json:"salt"`
	Sealed []byte `json:"sealed"`
}

// Seal returns a record of the secret.
func (p *Passphrase) Seal(ctx context.Context, _ [16]byte, secret []byte) ([]byte, error) {
	r := passphraseRecord{Cost: p.cost, Salt: make([]byte, 32)}
	rand.Read(r.Salt)
	key, err := p.derive(ctx, &r)
	if err != nil {
		return nil, err
	}
	defer clear(key[:])
	if r.Sealed, err = envelope.Seal(nil, key[:], usePassphrase, secret, nil); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// Unseal returns the secret, which the caller wipes, or [ErrWrong].
func (p *Passphrase) Unseal(ctx context.Context, _ [16]byte, record []byte) ([]byte, error) {
	var r passphraseRecord
	if err := json.Unmarshal(record, &r); err != nil {
		return nil, fmt.Errorf("read seal: %w", err)
	}
	key, err := p.derive(ctx, &r)
	if err != nil {
		return nil, err
	}
	defer clear(key[:])
	return open(key[:], usePassphrase, r.Sealed)
}

func (p *Passphrase) derive(ctx context.Context, r *passphraseRecord) ([32]byte, error) {
	return p.deriver.Argon2id(ctx, p.pass, r.Salt, r.MemoryKiB, r.Passes, r.Parallelism)
}
