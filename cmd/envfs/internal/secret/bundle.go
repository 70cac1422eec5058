// Package secret reads what opens a vault from where the user keeps it: a prompt, files, a command. Secrets never come
// from the command line's words or the environment.
package secret

import (
	"fmt"

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
}

// Wipe overwrites the secrets.
func (b *Bundle) Wipe() {
	clear(b.Passphrase)
	clear(b.KeyFile)
	clear(b.Recovery)
	*b = Bundle{}
}

// Providers returns a provider for each secret, in the order in which they are cheap to try. They work until the bundle is
// wiped.
func (b *Bundle) Providers(d keystore.Deriver) ([]keystore.Provider, error) {
	var all []keystore.Provider
	if b.KeyFile != nil {
		p, err := keystore.KeyFile(b.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("key file: %w", err)
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
	if b.Passphrase != nil {
		all = append(all, keystore.Passphrase(b.Passphrase, d))
	}
	return all, nil
}
