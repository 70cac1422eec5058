package masterkey

import (
	"context"
	"fmt"

	"filippo.io/age"

	"envfs/keystore"
	"envfs/keystore/agekey"
)

func openAge(ctx context.Context, recipient string, m Machine) (keystore.Wrapper, error) {
	var all []age.Identity
	for _, name := range m.Identities {
		text, err := m.Private(ctx, name, agekey.MaxIdentityFile)
		if err != nil {
			return nil, fmt.Errorf("read identity: %w", err)
		}
		identities, err := agekey.ParseIdentities(text, func() ([]byte, error) {
			return m.Ask(ctx, "Passphrase of "+name+": ")
		})
		clear(text)
		if err != nil {
			return nil, fmt.Errorf("read identity %s: %w", name, err)
		}
		all = append(all, identities...)
	}
	return agekey.New(recipient, all)
}

func readyAge(m Machine) bool { return len(m.Identities) > 0 }
