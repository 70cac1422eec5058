// Package secret reads what opens a vault from where the user keeps it: a prompt, files, a command. Secrets never come
// from the command line's words or the environment.
package secret

import (
	"bytes"
	"fmt"

	"envfs/blockcrypt"
	"envfs/keystore"
)

// maxPassphrase bounds a passphrase in bytes.
const maxPassphrase = 4096

// Bundle holds the secrets that a user gave; those that were not given are nil. It travels as JSON between the command
// and its daemon, through pipes and sockets that nobody else can read.
type Bundle struct {
	Passphrase []byte `json:"passphrase,omitempty"`
	KeyFile    []byte `json:"keyfile,omitempty"`  // the file's content
	Recovery   []byte `json:"recovery,omitempty"` // the words of a recovery code

	// Opened is the secret of a slot whose provider was asked already: so only the command, which has the user's environment,
	// talks to providers.
	Opened *Opened `json:"opened,omitempty"`
	// Made are secrets that providers made for slots to come, or wrapped anew.
	Made []Made `json:"made,omitempty"`
}

// Opened is the secret of one slot.
type Opened struct {
	Kind string `json:"kind"`
	Slot string `json:"slot"` // its id
	W    []byte `json:"w"`
}

// Made is a secret for one slot and what the slot keeps of it.
type Made struct {
	Kind    string `json:"kind"`
	Key     string `json:"key"`
	Wrapped []byte `json:"wrapped"`
	W       []byte `json:"w"`
}

// Clone returns a copy that is wiped by itself.
func (b *Bundle) Clone() Bundle {
	c := Bundle{Passphrase: bytes.Clone(b.Passphrase), KeyFile: bytes.Clone(b.KeyFile), Recovery: bytes.Clone(b.Recovery)}
	if b.Opened != nil {
		c.Opened = &Opened{Kind: b.Opened.Kind, Slot: b.Opened.Slot, W: bytes.Clone(b.Opened.W)}
	}
	for _, m := range b.Made {
		m.W = bytes.Clone(m.W)
		c.Made = append(c.Made, m)
	}
	return c
}

// Empty reports whether nothing was given.
func (b *Bundle) Empty() bool {
	return b.Passphrase == nil && b.KeyFile == nil && b.Recovery == nil && b.Opened == nil && b.Made == nil
}

// Wipe overwrites the secrets.
func (b *Bundle) Wipe() {
	clear(b.Passphrase)
	clear(b.KeyFile)
	clear(b.Recovery)
	if b.Opened != nil {
		clear(b.Opened.W)
	}
	for _, m := range b.Made {
		clear(m.W)
	}
	*b = Bundle{}
}

// Providers returns a provider for each secret, in the order in which they are cheap to try. They work until the bundle is
// wiped.
func (b *Bundle) Providers(d keystore.Deriver) ([]keystore.Provider, error) {
	var all []keystore.Provider
	if b.KeyFile != nil {
		p, err := keystore.KeyFile(b.KeyFile)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if b.Recovery != nil {
		p, err := keystore.Recovery(b.Recovery)
		if err != nil {
			return nil, fmt.Errorf("recovery code: %w", err)
		}
		all = append(all, p)
	}
	if b.Opened != nil {
		id, err := blockcrypt.ParseID(b.Opened.Slot)
		if err != nil {
			return nil, fmt.Errorf("slot %q: %w", b.Opened.Slot, err)
		}
		all = append(all, keystore.Opened(b.Opened.Kind, id, b.Opened.W))
	}
	for _, m := range b.Made {
		all = append(all, keystore.Made(m.Kind, keystore.ProviderData{Key: m.Key, Wrapped: m.Wrapped}, m.W))
	}
	if b.Passphrase != nil {
		all = append(all, keystore.Passphrase(b.Passphrase, d))
	}
	return all, nil
}
