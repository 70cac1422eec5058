// Package tpm has slots that open on one machine: W is sealed by its TPM 2.0, under the storage root key (ECC P-256, by
// the template of the TCG's provisioning guidance), and, if so wished, to the values of some PCRs.
//
// What is sealed is W and the hash of the slot's context, as package keystore binds them. Sealed objects are exempt
// from the TPM's lockout, as they have no password. Each command that carries W travels in a session that is salted to
// the storage root key and encrypts its parameter; the slot names that key, so whoever sits between CPU and TPM with a
// key of their own is found when the slot is opened.
package tpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"envfs/keystore"
)

const (
	// Kind is the kind of slots whose W this package makes.
	Kind = "tpm"
	// Scheme begins URIs: tpm: and tpm:pcrs=0,7.
	Scheme = "tpm:"
	// DefaultDevice is the kernel's resource manager of the machine's TPM.
	DefaultDevice = "/dev/tpmrm0"

	// patience bounds one call. A TPM of the slow kind makes its storage root key in a second.
	patience = 30 * time.Second
)

// Provider asks one TPM, for one thing at a time. It is safe for concurrent use.
type Provider struct {
	device string
	pcrs   PCRs
	turn   chan struct{} // holds one token while nobody uses the TPM
}

var _ keystore.Wrapper = (*Provider)(nil)

// New returns a provider for the TPM at a device, or at a Unix socket as swtpm's, whose new slots are bound to the
// values that the PCRs have when the slot is made.
func New(device string, pcrs PCRs) *Provider {
	p := &Provider{device: device, pcrs: pcrs, turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

// Present reports whether there is a device, or a socket, of that name. It is not opened.
func Present(device string) bool {
	st, err := os.Stat(device)
	return err == nil && st.Mode()&(os.ModeDevice|os.ModeSocket) != 0
}

// Check returns why the TPM cannot be used, nil if it can.
func (p *Provider) Check(ctx context.Context) error {
	_, err := ask(ctx, p, func(t transport.TPM) (struct{}, error) {
		root, err := openRoot(t)
		if err == nil {
			root.flush(t)
		}
		return struct{}{}, err
	}, func(struct{}) {})
	if err != nil {
		return p.failed(err)
	}
	return nil
}

// Kind implements keystore.Provider.
func (p *Provider) Kind() string { return Kind }

// sealed is a W and what a slot keeps of it.
type sealed struct {
	w    []byte
	data keystore.ProviderData
}

func (s sealed) wipe() { clear(s.w) }

// Wrap implements keystore.Wrapper.
func (p *Provider) Wrap(ctx context.Context, s keystore.SlotInfo) ([]byte, keystore.ProviderData, error) {
	made, err := ask(ctx, p, func(t transport.TPM) (made sealed, err error) {
		root, err := openRoot(t)
		if err != nil {
			return made, err
		}
		defer root.flush(t)
		w, bound := s.NewBound()
		defer clear(bound)
		b, err := root.seal(t, bound, p.pcrs)
		if err != nil {
			clear(w)
			return made, err
		}
		return sealed{w, keystore.ProviderData{Key: root.key(), Wrapped: b.encode()}}, nil
	}, sealed.wipe)
	if err != nil {
		return nil, keystore.ProviderData{}, p.failed(err)
	}
	return made.w, made.data, nil
}

// Secret implements keystore.Provider.
func (p *Provider) Secret(ctx context.Context, s keystore.SlotInfo) ([]byte, error) {
	b, err := decodeBlob(s.Provider.Wrapped)
	if err != nil {
		return nil, p.failed(err)
	}
	w, err := ask(ctx, p, func(t transport.TPM) ([]byte, error) {
		root, err := openRoot(t)
		if err != nil {
			return nil, err
		}
		defer root.flush(t)
		if root.key() != s.Provider.Key {
			return nil, errOtherTPM
		}
		bound, err := root.unseal(t, b)
		if err != nil {
			return nil, err
		}
		defer clear(bound)
		return s.Unbind(bound)
	}, func(w []byte) { clear(w) })
	if err != nil {
		return nil, p.failed(err)
	}
	return w, nil
}

// Rewrap implements keystore.Wrapper: a TPM's storage root key has no versions.
func (p *Provider) Rewrap(context.Context, keystore.SlotInfo) ([]byte, error) {
	return nil, fmt.Errorf("tpm: %w", keystore.ErrNoVersions)
}

// Describe implements keystore.Wrapper.
func (p *Provider) Describe(ctx context.Context, s keystore.SlotInfo) (keystore.Description, error) {
	d := keystore.Description{Name: s.Provider.Key, Place: p.device}
	b, err := decodeBlob(s.Provider.Wrapped)
	if err != nil {
		return keystore.Description{}, p.failed(err)
	}
	if b.pcrs != 0 {
		d.Name += " pcrs=" + b.pcrs.String()
	}
	d.State, err = ask(ctx, p, func(t transport.TPM) (string, error) {
		root, err := openRoot(t)
		if err != nil {
			return "", err
		}
		defer root.flush(t)
		if root.key() != s.Provider.Key {
			return "of another TPM", nil
		}
		return "enabled", nil
	}, func(string) {})
	if err != nil {
		return keystore.Description{}, p.failed(err)
	}
	return d, nil
}

// ask returns what f does with a connection to the TPM, when it is this call's turn. What has begun is not broken off
// when ctx ends: f takes what it has loaded out of the TPM again, which has little room, and takes some milliseconds;
// what f returns is then discarded.
func ask[T any](ctx context.Context, p *Provider, f func(transport.TPM) (T, error), discard func(T)) (none T, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return none, err
	}
	select {
	case <-p.turn:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	defer func() { p.turn <- struct{}{} }()
	t, err := dial(ctx, p.device)
	if err != nil {
		return none, err
	}
	v, err := f(t)
	t.Close() // it was only read and written
	if ctx.Err() != nil {
		discard(v)
		return none, ctx.Err()
	}
	return v, err
}

var (
	errOtherTPM = errors.New("it was sealed by another TPM, or this one has been cleared since")
	errDamaged  = errors.New("what the slot keeps is not what a TPM has sealed")
)
