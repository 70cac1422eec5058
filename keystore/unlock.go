package keystore

import (
	"context"
	"crypto/hmac"
	"crypto/subtle"
	"errors"
	"fmt"

	"envfs/blockcrypt"
)

// Unlock opens the key file with whichever provider fits one of its slots, those that cost no key derivation first.
// It returns [ErrWrongKey] if a slot was tried to the end and none opened, [ErrNoSlot] if none could be tried (with the
// providers' errors), and [ErrAltered] if a slot opened but the file is not what a holder of the root key wrote or its
// root key does not succeed the one that the slot names. The caller closes the vault.
func (f *File) Unlock(ctx context.Context, providers []Provider) (*Vault, error) {
	v, err := f.unlock(ctx, providers)
	if err != nil {
		return nil, fmt.Errorf("unlock vault %s: %w", f.VaultID(), err)
	}
	return v, nil
}

func (f *File) unlock(ctx context.Context, providers []Provider) (*Vault, error) {
	var errs []error
	tried := false
	for _, i := range f.cheapFirst() {
		s := &f.doc.Slots[i]
		for _, p := range providers {
			if p.Kind() != s.Kind {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			v, err := f.try(ctx, p, s)
			switch {
			case err == nil:
				return v, nil
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case errors.Is(err, errCommitment):
				tried = true
			case errors.Is(err, ErrAltered):
				return nil, err
			default:
				errs = append(errs, fmt.Errorf("slot %s: %w", blockcrypt.ID(s.ID), err))
			}
		}
	}
	err := ErrNoSlot
	if tried {
		err = ErrWrongKey
	}
	for _, e := range errs {
		err = fmt.Errorf("%w; %w", err, e)
	}
	return nil, err
}

// cheapFirst returns the slots' indexes, those without key derivation first.
func (f *File) cheapFirst() []int {
	var cheap, dear []int
	for i := range f.doc.Slots {
		if f.doc.Slots[i].KDF == nil {
			cheap = append(cheap, i)
		} else {
			dear = append(dear, i)
		}
	}
	return append(cheap, dear...)
}

func (f *File) try(ctx context.Context, p Provider, s *slotDocument) (*Vault, error) {
	w, err := secret(ctx, p, f.doc.slotInfo(s))
	if err != nil {
		return nil, err
	}
	defer clear(w)
	return f.open(w, s)
}

// secret asks a provider for W and checks its size.
func secret(ctx context.Context, p Provider, info SlotInfo) ([]byte, error) {
	w, err := p.Secret(ctx, info)
	if err != nil {
		return nil, err
	}
	if len(w) != blockcrypt.KeySize {
		clear(w)
		return nil, fmt.Errorf("provider %q: secret of %d bytes", p.Kind(), len(w))
	}
	return w, nil
}

// open opens the file with the W of one slot.
func (f *File) open(w []byte, s *slotDocument) (*Vault, error) {
	i := f.doc.ids()
	p, err := i.openPayload(w, s)
	if err != nil {
		return nil, err
	}
	defer p.wipe()
	rootKey := p.rootKey
	if s.RootKey != f.doc.RootKey {
		// Others rotated the root key since. Anybody can seal something to the slot's public half, so what comes out
		// must prove below that it succeeds the key in the payload.
		rootKey, err = i.openRootKey(s, f.doc.Generation, f.Fingerprint(), p.seed)
		if err != nil {
			return nil, fmt.Errorf("slot %s: sealed root key: %w", blockcrypt.ID(s.ID), ErrAltered)
		}
		defer clear(rootKey)
		if len(rootKey) != blockcrypt.KeySize || i.fingerprint(rootKey) != f.Fingerprint() {
			return nil, fmt.Errorf("slot %s: sealed root key has another fingerprint: %w", blockcrypt.ID(s.ID), ErrAltered)
		}
	}
	if mac := i.mac(rootKey, f.body); !hmac.Equal(mac[:], f.mac[:]) {
		return nil, fmt.Errorf("mac: %w", ErrAltered)
	}
	ringKey := i.keyringKey(rootKey, f.doc.Generation)
	defer clear(ringKey)
	b, err := open(ringKey, f.doc.Keyring, i.keyringAAD(f.doc.Generation))
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", ErrAltered)
	}
	defer clear(b)
	ring, err := decodeKeyring(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrAltered)
	}
	if s.RootKey != f.doc.RootKey && !holds(ring.earlier, p.rootKey) {
		return nil, fmt.Errorf("slot %s: root key does not succeed the slot's: %w", blockcrypt.ID(s.ID), ErrAltered)
	}
	return newVault(f, blockcrypt.ID(s.ID), w, rootKey, ring)
}

func holds(keys [][]byte, key []byte) bool {
	found := 0
	for _, k := range keys {
		found |= subtle.ConstantTimeCompare(k, key)
	}
	return found == 1
}
