// Package hashivault has master keys in HashiCorp Vault's Transit engine, or in OpenBao's, which has the same API.
//
// W is a data key of 32 bytes that Transit makes (datakey/plaintext); the slot keeps its ciphertext and the key's name.
// The slot's context is Transit's derivation context: the key must be derived, or Vault ignores the context, and one
// vault's slot would open in another's name. Package hashivault finds that out when a slot is made. It never sends
// associated_data: datakey ignores it, and rewrap does not know it.
//
// The client is written here, of three requests, because Vault's own brings some forty modules.
package hashivault

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"envfs/blockcrypt"
	"envfs/keystore"
)

// patience bounds one call, with the login before it.
const patience = 30 * time.Second

// Provider asks one Vault. It is safe for concurrent use.
type Provider struct {
	client *client
	key    name // zero: only slots that are there are opened
}

var _ keystore.Wrapper = (*Provider)(nil)

// New returns a provider for the key that uri names. Without one it only opens slots that are there. Where Vault is,
// and who asks, it has from where Vault's tools have it; see [Configured]. No request is made yet.
func New(uri string, getenv func(string) string) (*Provider, error) {
	var key name
	if uri != "" {
		var err error
		if key, err = parseURI(uri); err != nil {
			return nil, err
		}
	}
	c, err := newClient(getenv)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return &Provider{client: c, key: key}, nil
}

// Kind implements keystore.Provider.
func (p *Provider) Kind() string { return Kind }

// Wrap implements keystore.Wrapper. It asks for a data key and then whether it opens: under its own context, as the
// vault will later, and under another, which Vault must refuse.
func (p *Provider) Wrap(ctx context.Context, s keystore.SlotInfo) ([]byte, keystore.ProviderData, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if p.key.key == "" {
		return nil, keystore.ProviderData{}, errors.New("vault: no key is named")
	}
	w, kept, err := p.wrap(ctx, s.ContextText())
	if err != nil {
		return nil, keystore.ProviderData{}, fmt.Errorf("vault: key %s: %w", p.key, err)
	}
	return w, keystore.ProviderData{Key: p.key.String(), Wrapped: []byte(kept)}, nil
}

func (p *Provider) wrap(ctx context.Context, text string) ([]byte, string, error) {
	var made datakey
	defer made.wipe()
	if err := p.client.post(ctx, p.key.path("datakey/plaintext"), request{Bits: 8 * blockcrypt.KeySize, Context: []byte(text)}, &made); err != nil {
		return nil, "", err
	}
	w, err := made.key()
	if err != nil {
		return nil, "", err
	}
	if err := checkWrapped(made.Ciphertext); err != nil {
		clear(w)
		return nil, "", err
	}
	if err := p.bound(ctx, made.Ciphertext, text, w); err != nil {
		clear(w)
		return nil, "", err
	}
	return w, made.Ciphertext, nil
}

// otherContext is one that no slot has.
const otherContext = "envfs test: this context must not open"

// bound checks that what Vault has wrapped opens under its context as w, and under another not.
func (p *Provider) bound(ctx context.Context, wrapped, text string, w []byte) error {
	again, err := p.decrypt(ctx, p.key, wrapped, text)
	same := string(again) == string(w)
	clear(again)
	if err != nil {
		return fmt.Errorf("what it has wrapped does not open: %w", err)
	}
	if !same {
		return errors.New("what it has wrapped opens as something else")
	}
	again, err = p.decrypt(ctx, p.key, wrapped, otherContext)
	clear(again)
	if err == nil {
		return fmt.Errorf("%w: the key is not derived, so that it would not tell vaults apart; make one that is: vault write -f %s derived=true", keystore.ErrRefused, p.key.path("keys"))
	}
	if refused, ok := errors.AsType[*refusal](err); ok && refused.status == http.StatusBadRequest {
		return nil
	}
	return fmt.Errorf("ask whether the key is derived: %w", err) // a policy may have refused instead, which proves nothing
}

// Secret implements keystore.Provider.
func (p *Provider) Secret(ctx context.Context, s keystore.SlotInfo) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key, wrapped, err := slot(s)
	if err != nil {
		return nil, err
	}
	w, err := p.decrypt(ctx, key, wrapped, s.ContextText())
	if err != nil {
		return nil, fmt.Errorf("vault: key %s: %w", key, err)
	}
	return w, nil
}

func (p *Provider) decrypt(ctx context.Context, key name, wrapped, text string) ([]byte, error) {
	var opened datakey
	defer opened.wipe()
	if err := p.client.post(ctx, key.path("decrypt"), request{Ciphertext: wrapped, Context: []byte(text)}, &opened); err != nil {
		return nil, err
	}
	return opened.key()
}

// Rewrap implements keystore.Wrapper: Vault decrypts and encrypts by itself.
func (p *Provider) Rewrap(ctx context.Context, s keystore.SlotInfo) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key, wrapped, err := slot(s)
	if err != nil {
		return nil, err
	}
	var again datakey
	err = p.client.post(ctx, key.path("rewrap"), request{Ciphertext: wrapped, Context: []byte(s.ContextText())}, &again)
	if err == nil {
		err = checkWrapped(again.Ciphertext)
	}
	if err != nil {
		return nil, fmt.Errorf("vault: key %s: %w", key, err)
	}
	return []byte(again.Ciphertext), nil
}

// Describe implements keystore.Wrapper. Who may not read the key's properties learns that as its state.
func (p *Provider) Describe(ctx context.Context, s keystore.SlotInfo) (keystore.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key, _, err := slot(s)
	if err != nil {
		return keystore.Description{}, err
	}
	d := keystore.Description{Name: key.String(), State: "enabled", Place: p.client.place()}
	var is struct {
		Derived       *bool `json:"derived"`
		LatestVersion int   `json:"latest_version"`
	}
	err = p.client.get(ctx, key.path("keys"), &is)
	denied, ok := errors.AsType[*refusal](err)
	switch {
	case ok && denied.status == http.StatusForbidden:
		d.State = "not known: the policy does not allow to read " + key.path("keys")
		return d, nil
	case err != nil:
		return keystore.Description{}, fmt.Errorf("vault: key %s: %w", key, err)
	case is.Derived == nil:
		return keystore.Description{}, fmt.Errorf("vault: key %s: %w", key, errReply)
	case !*is.Derived:
		d.State = "not derived: it does not tell vaults apart"
	}
	d.Version = strconv.Itoa(is.LatestVersion)
	return d, nil
}

// slot returns what a slot keeps, if it is what this package would have it keep.
func slot(s keystore.SlotInfo) (name, string, error) {
	key, err := parseName(s.Provider.Key)
	if err != nil {
		return name{}, "", fmt.Errorf("vault: slot: %w", err)
	}
	wrapped := string(s.Provider.Wrapped)
	if err := checkWrapped(wrapped); err != nil {
		return name{}, "", fmt.Errorf("vault: key %s: %w", key, err)
	}
	return key, wrapped, nil
}

// request is the body of all of Transit's requests. Vault wants bytes in base64, as encoding/json writes them.
type request struct {
	Bits       int    `json:"bits,omitempty"`
	Ciphertext string `json:"ciphertext,omitempty"`
	Context    []byte `json:"context"`
}

// datakey is what they return.
type datakey struct {
	Plaintext  []byte `json:"plaintext"`
	Ciphertext string `json:"ciphertext"`
}

// key returns W.
func (d *datakey) key() ([]byte, error) {
	if len(d.Plaintext) != blockcrypt.KeySize {
		return nil, fmt.Errorf("%w: a key of %d bytes", errReply, len(d.Plaintext))
	}
	return append([]byte(nil), d.Plaintext...), nil
}

func (d *datakey) wipe() { clear(d.Plaintext) }

var strict = base64.StdEncoding.Strict()
