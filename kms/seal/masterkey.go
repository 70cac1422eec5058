package seal

import (
	"context"
	"encoding/json"
	"fmt"

	"envfs/kms/internal/envelope"
)

// A Wrapper has somebody else hold a master key: a TPM, an HSM, another KMS. It makes a secret W of 32 random bytes and
// what only the master key makes W of again, bound to an id. Errors are its own; both secrets are wiped by the caller.
type Wrapper interface {
	// Kind names the kind of master key; it must be none of this package's.
	Kind() string
	// Wrap makes a W, and says which master key it is (key) and what is to be kept (wrapped).
	Wrap(ctx context.Context, id [16]byte) (w []byte, key string, wrapped []byte, err error)
	// Unwrap returns the W of what Wrap returned for the same id.
	Unwrap(ctx context.Context, id [16]byte, key string, wrapped []byte) (w []byte, err error)
}

const useMasterKey = "envfs kms seal masterkey 1"

// MasterKey seals under a secret that only a master key elsewhere makes again.
type MasterKey struct{ wrapper Wrapper }

// NewMasterKey returns a seal whose master key w reaches.
func NewMasterKey(w Wrapper) *MasterKey { return &MasterKey{w} }

// Kind returns the kind of master key.
func (m *MasterKey) Kind() string { return m.wrapper.Kind() }

// masterKeyRecord is the record of a secret under a master key, in JSON.
type masterKeyRecord struct {
	Key     string `json:"key"`
	Wrapped []byte `json:"wrapped"`
	Sealed  []byte `json:"sealed"`
}

// Seal returns a record of the secret of the KMS id, after it has tried that the master key opens it.
func (m *MasterKey) Seal(ctx context.Context, id [16]byte, secret []byte) ([]byte, error) {
	w, key, wrapped, err := m.wrapper.Wrap(ctx, id)
	if err != nil {
		return nil, err
	}
	defer clear(w)
	r := masterKeyRecord{Key: key, Wrapped: wrapped}
	if r.Sealed, err = envelope.Seal(nil, w, useMasterKey, secret, id[:]); err != nil {
		return nil, err
	}
	again, err := m.open(ctx, id, &r)
	if err != nil {
		return nil, fmt.Errorf("try what was sealed: %w", err)
	}
	clear(again)
	return json.Marshal(r)
}

// Unseal returns the secret, which the caller wipes, [ErrWrong], or why the master key does not open it.
func (m *MasterKey) Unseal(ctx context.Context, id [16]byte, record []byte) ([]byte, error) {
	var r masterKeyRecord
	if err := json.Unmarshal(record, &r); err != nil {
		return nil, fmt.Errorf("read seal: %w", err)
	}
	return m.open(ctx, id, &r)
}

func (m *MasterKey) open(ctx context.Context, id [16]byte, r *masterKeyRecord) ([]byte, error) {
	w, err := m.wrapper.Unwrap(ctx, id, r.Key, r.Wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(w)
	if len(w) != envelope.SecretSize {
		return nil, fmt.Errorf("master key: secret of %d bytes, not %d", len(w), envelope.SecretSize)
	}
	secret, err := openWith(w, useMasterKey, r.Sealed, id[:])
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", m.Kind(), r.Key, err)
	}
	return secret, nil
}
