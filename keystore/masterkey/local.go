package masterkey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"filippo.io/age"

	"envfs/keystore"
	"envfs/keystore/agekey"
	"envfs/keystore/loginkeyring"
	"envfs/keystore/statefile"
	"envfs/keystore/tpm"
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

func openTPM(_ context.Context, uri string, m Machine) (keystore.Wrapper, error) {
	var pcrs tpm.PCRs
	if uri != "" {
		var err error
		if pcrs, err = tpm.Parse(uri); err != nil {
			return nil, err
		}
	}
	return tpm.New(m.tpmDevice(), pcrs), nil
}

func readyTPM(m Machine) bool { return tpm.Present(m.tpmDevice()) }

func (m Machine) tpmDevice() string { return cmp.Or(m.TPM, m.Getenv("ENVFS_TPM"), tpm.DefaultDevice) }

func openKeyring(_ context.Context, uri string, m Machine) (keystore.Wrapper, error) {
	if uri != "" {
		if err := loginkeyring.Parse(uri); err != nil {
			return nil, err
		}
	}
	return loginkeyring.New(loginkeyring.Bus(m.Getenv)), nil
}

func readyKeyring(m Machine) bool { return loginkeyring.Bus(m.Getenv) != "" }

func openStateFile(_ context.Context, uri string, m Machine) (keystore.Wrapper, error) {
	if uri != "" {
		if err := statefile.Parse(uri); err != nil {
			return nil, err
		}
	}
	if m.StateDir == "" {
		return nil, errors.New("key in a file: this machine has no state directory: --state-dir names one")
	}
	return statefile.New(m.stateKeys()), nil
}

func readyStateFile(m Machine) bool {
	st, err := os.Stat(m.stateKeys())
	return m.StateDir != "" && err == nil && st.IsDir()
}

func (m Machine) stateKeys() string { return filepath.Join(m.StateDir, "keys") }
