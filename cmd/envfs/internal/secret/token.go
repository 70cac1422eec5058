package secret

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
)

// Token says how this machine reaches PKCS#11 tokens.
type Token struct {
	Module  string // the shared library that came with the token
	PINFile string
	PINCmd  string

	Credential string // name of systemd's credential that may have the PIN; empty: envfs.pin
}

// Flags declares the flags of t.
func (t *Token) Flags(f *pflag.FlagSet) {
	f.StringVar(&t.Module, "pkcs11-module", "", "load the PKCS#11 module in the shared library `PATH` (default: ENVFS_PKCS11_MODULE)")
	f.StringVar(&t.PINFile, "pin-file", "", "read the PIN of the token from `FILE`")
	f.StringVar(&t.PINCmd, "pin-cmd", "", "read the PIN from what `COMMAND` (run by sh, the token's name in ENVFS_TOKEN) prints")
}

// PIN returns the PIN of the token with the given name: where the user says that it is, or else what systemd has for
// this service, or else as typed at the terminal.
func (t *Token) PIN(ctx context.Context, term *Terminal, name string) (pin []byte, err error) {
	switch {
	case t.PINFile != "" && t.PINCmd != "":
		return nil, errors.New("--pin-file and --pin-cmd exclude each other")
	case t.PINFile != "":
		pin, err = ReadPrivate(ctx, t.PINFile, maxPassphrase+2)
	case t.PINCmd != "":
		if pin, err = output(ctx, t.PINCmd, "ENVFS_TOKEN="+name); err != nil {
			err = fmt.Errorf("run --pin-cmd: %w", err)
		}
	default:
		if pin, err = t.credential(); pin != nil || err != nil {
			break
		}
		if term.Present() {
			return term.Passphrase(ctx, fmt.Sprintf("PIN of token %q: ", name))
		}
		return nil, fmt.Errorf("%w: give the PIN by --pin-file or --pin-cmd", ErrNoTerminal)
	}
	if err != nil {
		return nil, err
	}
	return passphrase(pin)
}

// credential returns the PIN that systemd has put aside for this service (systemd.exec(5), LoadCredential=); nil if
// there is none.
func (t *Token) credential() ([]byte, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, nil
	}
	return credential(filepath.Join(dir, cmp.Or(t.Credential, "envfs.pin")), maxPassphrase+2)
}
