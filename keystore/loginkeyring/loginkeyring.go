// Package loginkeyring has slots whose W lies in the user's login keyring: GNOME Keyring, KWallet or whatever else
// serves the Secret Service API (specifications.freedesktop.org/secret-service) on the session bus. So who has logged
// in is asked nothing.
//
// An entry of the keyring holds W and the hash of the slot's context, as package keystore binds them. Its attributes
// are "service", envfs, and "username", 16 random bytes in hexadecimal, which are all that the slot keeps; its label
// tells people which vault it opens.
package loginkeyring

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"

	"envfs/keystore"
)

const (
	// Kind is the kind of slots whose W this package makes.
	Kind = "keyring"
	// Scheme is the URI, which has no options.
	Scheme = "keyring:"

	keyName       = "login keyring"
	referenceSize = 16
	// patience bounds one call, in which somebody may have to type the keyring's passphrase.
	patience = 50 * time.Second
)

// Provider asks one login keyring. It is safe for concurrent use.
type Provider struct{ bus string }

var _ keystore.Forgetter = (*Provider)(nil)

// New returns a provider for the keyring on the session bus with the given address (D-Bus specification, "Server
// Addresses").
func New(bus string) *Provider { return &Provider{bus} }

// Bus returns the address of the session bus, "" if there is none: what DBUS_SESSION_BUS_ADDRESS says, else the socket
// of the user's systemd. None is started.
func Bus(getenv func(string) string) string {
	if address := getenv("DBUS_SESSION_BUS_ADDRESS"); address != "" {
		return address
	}
	dir := getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		return ""
	}
	socket := filepath.Join(dir, "bus")
	if st, err := os.Stat(socket); err != nil || st.Mode()&os.ModeSocket == 0 {
		return ""
	}
	return "unix:path=" + dbus.EscapeBusAddressValue(socket)
}

// Parse checks a URI.
func Parse(uri string) error {
	if uri != Scheme {
		return fmt.Errorf("%q: %s has no options", uri, Scheme)
	}
	return nil
}

// Kind implements keystore.Provider.
func (p *Provider) Kind() string { return Kind }

// Check returns why no keyring can be asked, nil if one can: there is a bus, and on it somebody who serves secrets, or
// whom the bus starts for that.
func (p *Provider) Check(ctx context.Context) error {
	return p.use(ctx, func(context.Context, *service) error { return nil })
}

// Wrap implements keystore.Wrapper.
func (p *Provider) Wrap(ctx context.Context, s keystore.SlotInfo) ([]byte, keystore.ProviderData, error) {
	reference := make([]byte, referenceSize)
	rand.Read(reference) // it never fails: crypto/rand
	w, bound := s.NewBound()
	defer clear(bound)
	err := p.use(ctx, func(ctx context.Context, k *service) error {
		return k.store(ctx, account(reference), "envfs vault "+s.Vault.String(), bound)
	})
	if err != nil {
		clear(w)
		return nil, keystore.ProviderData{}, err
	}
	return w, keystore.ProviderData{Key: keyName, Wrapped: reference}, nil
}

// Forget implements keystore.Forgetter.
func (p *Provider) Forget(ctx context.Context, d keystore.ProviderData) error {
	if len(d.Wrapped) != referenceSize {
		return errors.New("login keyring: what the slot keeps is no reference to an entry")
	}
	return p.use(ctx, func(ctx context.Context, k *service) error { return k.remove(ctx, account(d.Wrapped)) })
}

// Secret implements keystore.Provider.
func (p *Provider) Secret(ctx context.Context, s keystore.SlotInfo) (w []byte, err error) {
	if len(s.Provider.Wrapped) != referenceSize {
		return nil, errors.New("login keyring: what the slot keeps is no reference to an entry")
	}
	err = p.use(ctx, func(ctx context.Context, k *service) error {
		bound, err := k.load(ctx, account(s.Provider.Wrapped))
		defer clear(bound)
		if err != nil {
			return err
		}
		w, err = s.Unbind(bound)
		return err
	})
	return w, err
}

// Rewrap implements keystore.Wrapper: an entry of a keyring has no versions.
func (p *Provider) Rewrap(context.Context, keystore.SlotInfo) ([]byte, error) {
	return nil, fmt.Errorf("login keyring: %w", keystore.ErrNoVersions)
}

// Describe implements keystore.Wrapper. Nobody is asked for the keyring's passphrase.
func (p *Provider) Describe(ctx context.Context, s keystore.SlotInfo) (keystore.Description, error) {
	d := keystore.Description{Name: "envfs " + account(s.Provider.Wrapped), Place: keyName}
	err := p.use(ctx, func(ctx context.Context, k *service) error {
		unlocked, locked, err := k.find(ctx, account(s.Provider.Wrapped))
		switch {
		case len(unlocked) > 0:
			d.State = "enabled"
		case len(locked) > 0:
			d.State = "the keyring is locked"
		default:
			d.State = "not in this keyring"
		}
		return err
	})
	return d, err
}

func account(reference []byte) string { return hex.EncodeToString(reference) }

// use runs f with a connection to the keyring of its own, which ends with ctx.
func (p *Provider) use(ctx context.Context, f func(context.Context, *service) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.bus == "" {
		return fmt.Errorf("login keyring: %w: there is no session bus: DBUS_SESSION_BUS_ADDRESS is not set", keystore.ErrAway)
	}
	conn, err := dbus.Connect(p.bus, dbus.WithContext(ctx))
	if err == nil {
		defer conn.Close()
		var k *service
		if k, err = open(ctx, conn); err == nil {
			err = f(ctx, k)
		}
	}
	return failed(ctx, err)
}

// failed sorts an error.
func failed(ctx context.Context, err error) error {
	reply, isReply := errors.AsType[dbus.Error](err)
	_, isNet := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keystore.ErrRefused), errors.Is(err, keystore.ErrAway):
	case errors.Is(context.Cause(ctx), context.Canceled):
		err = context.Canceled
	case isReply && reply.Name == "org.freedesktop.Secret.Error.IsLocked":
		err = fmt.Errorf("%w: the keyring is locked", keystore.ErrRefused)
	case isReply, isNet, ctx.Err() != nil: // nobody serves secrets, or not in time
		err = fmt.Errorf("%w: %w", keystore.ErrAway, err)
	}
	return fmt.Errorf("login keyring: %w", err)
}
