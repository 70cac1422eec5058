// Package pkcs11 has master keys in tokens that speak PKCS#11: HSMs, smart cards, SoftHSM.
//
// The key is a generic secret key that never leaves its token and signs with CKM_SHA256_HMAC, which serves as a
// pseudo-random function. The slot keeps a random salt, and W is the HMAC of that salt and the slot's context. So
// opening a slot writes nothing to the token, and one key serves any number of vaults.
//
// A token's module is a shared library made by its vendor. It is loaded by a helper program, envfs-pkcs11: so envfs
// needs no C library, and a module that hangs or crashes takes nothing with it.
package pkcs11

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/keystore/pkcs11/wire"
)

const (
	// label begins each message, so that the key says nothing for envfs that it says for another use.
	label = "envfs slot secret"
	// version numbers the form of the message and of what the slot keeps: this byte and the salt.
	version  = 1
	saltSize = 32

	// patience bounds one call of the helper. With maxLogins there are five at most, so that all takes a minute, but for
	// who types the PIN.
	patience = 12 * time.Second
)

// Provider uses one key in a token, or opens slots that are there. It is safe for concurrent use.
type Provider struct {
	module *Module
	key    wire.Key
	named  bool // whether key is one
}

var _ keystore.Wrapper = (*Provider)(nil)

// Provider returns the provider for the key that uri names. An empty one makes a provider that only opens slots that
// are there.
func (m *Module) Provider(uri string) (*Provider, error) {
	if uri == "" {
		return &Provider{module: m}, nil
	}
	k, err := Parse(uri)
	if err != nil {
		return nil, err
	}
	return &Provider{m, k, true}, nil
}

// Kind implements keystore.Provider.
func (p *Provider) Kind() string { return Kind }

// Wrap implements keystore.Wrapper. It refuses a key that can leave its token.
func (p *Provider) Wrap(ctx context.Context, s keystore.SlotInfo) ([]byte, keystore.ProviderData, error) {
	if !p.named {
		return nil, keystore.ProviderData{}, errors.New("pkcs11: no key is named")
	}
	kept := make([]byte, 1+saltSize)
	kept[0] = version
	if _, err := rand.Read(kept[1:]); err != nil {
		return nil, keystore.ProviderData{}, fmt.Errorf("pkcs11: make salt: %w", err)
	}
	w, err := p.mac(ctx, p.key, s, kept[1:], true)
	if err != nil {
		return nil, keystore.ProviderData{}, err
	}
	return w, keystore.ProviderData{Key: Format(p.key), Wrapped: kept}, nil
}

// Secret implements keystore.Provider. If a key is named, slots of other keys are left alone: the PIN that is given is
// not theirs.
func (p *Provider) Secret(ctx context.Context, s keystore.SlotInfo) ([]byte, error) {
	k, err := p.of(s)
	if err != nil {
		return nil, err
	}
	kept := s.Provider.Wrapped
	if len(kept) != 1+saltSize || kept[0] != version {
		return nil, fmt.Errorf("%s: what the slot keeps is not a salt of version %d", Format(k), version)
	}
	return p.mac(ctx, k, s, kept[1:], false)
}

// Rewrap implements keystore.Wrapper: a token's keys have no versions.
func (p *Provider) Rewrap(context.Context, keystore.SlotInfo) ([]byte, error) {
	return nil, fmt.Errorf("pkcs11: %w", keystore.ErrNoVersions)
}

// Describe implements keystore.Wrapper.
func (p *Provider) Describe(ctx context.Context, s keystore.SlotInfo) (keystore.Description, error) {
	k, err := p.of(s)
	if err != nil {
		return keystore.Description{}, err
	}
	r, err := p.module.do(ctx, wire.Request{Op: wire.Describe, Key: k})
	if err != nil {
		return keystore.Description{}, fmt.Errorf("%s: %w", Format(k), err)
	}
	return keystore.Description{
		Name: Format(k), State: "enabled",
		Place: fmt.Sprintf("token %s, serial number %s (%s)", r.Token.Label, r.Token.Serial, r.Token.Model),
	}, nil
}

// of returns the key of a slot, with what the user's name for it adds.
func (p *Provider) of(s keystore.SlotInfo) (wire.Key, error) {
	k, err := Parse(s.Provider.Key)
	if err != nil {
		return wire.Key{}, fmt.Errorf("pkcs11: %w", err)
	}
	both, ok := merge(k, p.key)
	if !ok {
		return wire.Key{}, fmt.Errorf("%s: it is another key than %s", Format(k), Format(p.key))
	}
	return both, nil
}

// mac returns W.
func (p *Provider) mac(ctx context.Context, k wire.Key, s keystore.SlotInfo, salt []byte, fresh bool) ([]byte, error) {
	r, err := p.module.do(ctx, wire.Request{Op: wire.MAC, Key: k, Message: message(s, salt), New: fresh})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Format(k), err)
	}
	if len(r.MAC) != blockcrypt.KeySize {
		clear(r.MAC)
		return nil, fmt.Errorf("%s: the token's HMAC has %d bytes", Format(k), len(r.MAC))
	}
	return r.MAC, nil
}

// message is what the key signs: the label with its length before it, the version, the salt, and the SHA-256 of the
// context. Its parts have fixed lengths, so that no two slots share a message.
func message(s keystore.SlotInfo, salt []byte) []byte {
	about := sha256.Sum256([]byte(s.ContextText()))
	m := append([]byte{byte(len(label))}, label...)
	m = append(m, version)
	m = append(m, salt...)
	return append(m, about[:]...)
}
