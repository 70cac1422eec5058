// Package agekey has slots for people who have an age identity (age-encryption.org/v1): W is encrypted to their
// recipient, so whoever makes the slot needs nothing secret of theirs.
//
// age has no associated data; what is encrypted is W and the hash of the slot's context, as package keystore binds
// them. Only age's native keys are known, X25519 and the hybrid of ML-KEM-768 and X25519. Plugins are other programs
// and are not run.
package agekey

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"envfs/keystore"
)

const (
	// Kind is the kind of slots whose W this package makes.
	Kind = "age"
	// Scheme begins recipients.
	Scheme = "age1"

	hybridScheme = "age1pq1"
)

// Provider encrypts to one recipient and decrypts with the identities that are here. It is safe for concurrent use.
type Provider struct {
	recipient  age.Recipient // nil: only slots that are there are opened
	key        string
	identities []age.Identity
}

var _ keystore.Wrapper = (*Provider)(nil)

// New returns a provider for a recipient, age1... or age1pq1..., or, if that is empty, for slots that are there.
func New(recipient string, identities []age.Identity) (*Provider, error) {
	p := &Provider{identities: identities}
	if recipient == "" {
		return p, nil
	}
	var err error
	if p.recipient, err = parse(recipient); err != nil {
		return nil, err
	}
	p.key = keyOf(recipient)
	return p, nil
}

var errPlugin = errors.New("it is a plugin's recipient, and envfs runs no plugins: age1... of age-keygen, or age1pq1... of age-keygen -pq")

func parse(recipient string) (age.Recipient, error) {
	var r age.Recipient
	var err error
	switch {
	case strings.HasPrefix(recipient, hybridScheme):
		r, err = age.ParseHybridRecipient(recipient)
	// Behind a name comes another "1", the last of the text; the data of Bech32 (BIP 173) has none.
	case strings.Contains(strings.TrimPrefix(recipient, Scheme), "1"):
		err = errPlugin
	default:
		r, err = age.ParseX25519Recipient(recipient)
	}
	if err != nil {
		return nil, fmt.Errorf("age: recipient %.60q: %w", recipient, err)
	}
	return r, nil
}

// keyOf returns how a slot calls a recipient: by itself, or, if it is a hybrid one of 2000 characters, by its SHA-256.
func keyOf(recipient string) string {
	if !strings.HasPrefix(recipient, hybridScheme) {
		return recipient
	}
	sum := sha256.Sum256([]byte(recipient))
	return "age1pq1 sha256:" + hex.EncodeToString(sum[:])
}

// Kind implements keystore.Provider.
func (p *Provider) Kind() string { return Kind }

// Wrap implements keystore.Wrapper.
func (p *Provider) Wrap(ctx context.Context, s keystore.SlotInfo) ([]byte, keystore.ProviderData, error) {
	if p.recipient == nil {
		return nil, keystore.ProviderData{}, errors.New("age: no recipient is named by --key")
	}
	if err := ctx.Err(); err != nil {
		return nil, keystore.ProviderData{}, err
	}
	w, bound := s.NewBound()
	defer clear(bound)
	var wrapped bytes.Buffer
	to, err := age.Encrypt(&wrapped, p.recipient)
	if err == nil {
		_, err = to.Write(bound)
	}
	if err == nil {
		err = to.Close()
	}
	if err != nil {
		clear(w)
		return nil, keystore.ProviderData{}, fmt.Errorf("age: encrypt to %s: %w", p.key, err)
	}
	return w, keystore.ProviderData{Key: p.key, Wrapped: wrapped.Bytes()}, nil
}

// Secret implements keystore.Provider.
func (p *Provider) Secret(ctx context.Context, s keystore.SlotInfo) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(p.identities) == 0 {
		return nil, fmt.Errorf("age: recipient %s: no identity was given: --identity FILE", s.Provider.Key)
	}
	from, err := age.Decrypt(bytes.NewReader(s.Provider.Wrapped), p.identities...)
	if none, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, fmt.Errorf("age: recipient %s: %w: %w", s.Provider.Key, keystore.ErrRefused, none)
	}
	if err != nil {
		return nil, fmt.Errorf("age: recipient %s: %w", s.Provider.Key, err)
	}
	bound, err := io.ReadAll(io.LimitReader(from, keystore.BoundSize+1))
	defer clear(bound)
	if err != nil {
		return nil, fmt.Errorf("age: recipient %s: %w", s.Provider.Key, err)
	}
	w, err := s.Unbind(bound)
	if err != nil {
		return nil, fmt.Errorf("age: recipient %s: %w", s.Provider.Key, err)
	}
	return w, nil
}

// Rewrap implements keystore.Wrapper: an age key is another one, or the same.
func (p *Provider) Rewrap(context.Context, keystore.SlotInfo) ([]byte, error) {
	return nil, fmt.Errorf("age: %w", keystore.ErrNoVersions)
}

// Describe implements keystore.Wrapper.
func (p *Provider) Describe(_ context.Context, s keystore.SlotInfo) (keystore.Description, error) {
	d := keystore.Description{Name: s.Provider.Key, State: "its identity was not given", Place: "an age identity"}
	for _, i := range p.identities {
		if recipientOf(i) == s.Provider.Key {
			d.State = "enabled"
		}
	}
	return d, nil
}

// recipientOf returns how a slot calls the recipient of an identity.
func recipientOf(i age.Identity) string {
	switch i := i.(type) {
	case *age.X25519Identity:
		return keyOf(i.Recipient().String())
	case *age.HybridIdentity:
		return keyOf(i.Recipient().String())
	}
	return ""
}
