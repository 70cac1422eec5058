package kms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"envfs/keystore/arena"
	"envfs/kms/blob"
	"envfs/kms/policy"
)

// The states of a key.
const (
	stateEnabled  = "Enabled"
	stateDisabled = "Disabled"
	statePending  = "PendingDeletion"
)

// Why a backing key was made.
const (
	rotatedOnDemand = "ON_DEMAND"
	rotatedByItself = "AUTOMATIC"
	defaultPeriod   = 365 // days between rotations
	maxBackingKeys  = 1000
	day             = 24 * time.Hour
	policyName      = "default" // the one that a key policy has
)

// keyRecord is a key as it rests in the store, without its backing keys.
type keyRecord struct {
	Description  string          `json:"description"`
	Created      time.Time       `json:"created"`
	State        string          `json:"state"`
	DeletionDate time.Time       `json:"deletion_date,omitzero"`
	Policy       string          `json:"policy"`
	Rotate       bool            `json:"rotate"` // by itself
	PeriodDays   int             `json:"period_days,omitempty"`
	NextRotation time.Time       `json:"next_rotation,omitzero"`
	Backing      []backingRecord `json:"backing"` // in the order in which they were made; the last one encrypts
}

// backingRecord tells of a backing key.
type backingRecord struct {
	ID      backingID `json:"id"`
	Created time.Time `json:"created"`
	Why     string    `json:"why,omitempty"` // "" of the first
}

// backingID is an id whose text is hexadecimal.
type backingID blob.ID

// MarshalText returns the id as a UUID.
func (b backingID) MarshalText() ([]byte, error) { return []byte(keyID(blob.ID(b))), nil }

// UnmarshalText parses a UUID.
func (b *backingID) UnmarshalText(text []byte) error {
	id, ok := parseKeyID(string(text))
	if !ok {
		return errors.New("backing key: not an id")
	}
	*b = backingID(id)
	return nil
}

// key is a key in memory. It is never changed, but replaced by another.
type key struct {
	keyRecord
	id      blob.ID
	arn     string
	policy  *policy.Policy
	backing map[backingID]*arena.Key
}

// changed returns a copy of the key, to be changed.
func (k *key) changed() *key {
	next := *k
	next.keyRecord.Backing = slices.Clone(k.Backing)
	next.backing = maps.Clone(k.backing)
	return &next
}

// usable refuses what a key that is not enabled does not do.
func (k *key) usable() error {
	switch k.State {
	case stateEnabled:
		return nil
	case statePending:
		return pending(k)
	}
	return NewError("DisabledException", "%s is disabled.", k.arn)
}

func pending(k *key) *Error { return NewError(codeState, "%s is pending deletion.", k.arn) }

// encrypt returns a blob under the newest backing key.
func (k *key) encrypt(plaintext []byte, context map[string]string) ([]byte, error) {
	newest := k.Backing[len(k.Backing)-1].ID
	return blob.Seal(blob.Header{Key: k.id, Backing: blob.ID(newest)}, k.backing[newest].Bytes(), plaintext, context)
}

// decrypt opens a blob of this key.
func (k *key) decrypt(b []byte, context map[string]string) ([]byte, error) {
	h, err := blob.Parse(b)
	if err != nil {
		return nil, err
	}
	backing, ok := k.backing[backingID(h.Backing)]
	if !ok {
		return nil, blob.ErrInvalid
	}
	return blob.Open(b, backing.Bytes(), context)
}

// addBacking makes a new backing key, which encrypts from now on.
func (k *key) addBacking(room *room, now time.Time, why string) (*arena.Key, error) {
	a, err := room.random()
	if err != nil {
		return nil, err
	}
	b := backingRecord{ID: backingID(newID()), Created: now, Why: why}
	k.Backing = append(k.Backing, b)
	k.backing[b.ID] = a
	return a, nil
}

// load makes k of what rests in the store.
func (k *key) load(record []byte, account string) error {
	d := json.NewDecoder(bytes.NewReader(record))
	d.DisallowUnknownFields() // a newer version knows more than this one would keep to
	if err := d.Decode(&k.keyRecord); err != nil {
		return fmt.Errorf("read key %s: %w", keyID(k.id), err)
	}
	p, err := policy.Parse(k.Policy, account)
	if err != nil {
		return fmt.Errorf("read policy of key %s: %w", keyID(k.id), err)
	}
	k.policy = p
	return nil
}
