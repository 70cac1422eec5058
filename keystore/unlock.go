package keystore

import (
	"context"
	"crypto/hmac"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"sync"

	"envfs/blockcrypt"
)

// Unlock opens the key file with whichever provider fits one of its slots: first those that cost nothing, then all
// others at once, except that keys are derived from passphrases one after the other. The first that opens counts, and
// the others' contexts end. It returns [ErrWrongKey] if a slot was tried to the end and none opened or a provider
// refused, [ErrNoSlot] if none could be tried (both with the providers' errors), and [ErrAltered] if a slot opened but
// the file is not what a holder of the root key wrote or its root key does not succeed the one that the slot names. The
// caller closes the vault. No provider is in use any more when Unlock returns.
func (f *File) Unlock(ctx context.Context, providers []Provider) (*Vault, error) {
	v, err := race(ctx, f.attempts(providers), func(ctx context.Context, a attempt) (*Vault, error) {
		w, err := secret(ctx, a.provider, f.doc.slotInfo(a.slot))
		if err != nil {
			return nil, err
		}
		defer clear(w)
		return f.open(w, a.slot)
	}, (*Vault).Close)
	if err != nil {
		return nil, fmt.Errorf("unlock vault %s: %w", f.VaultID(), err)
	}
	return v, nil
}

// Found is the secret of one slot.
type Found struct {
	Slot blockcrypt.ID
	Kind string
	W    []byte // the caller wipes it
}

// Find returns W of a slot that one of the providers opens, for [Opened]: so one process may ask the providers and another
// open the vault. It takes the same way and returns the same errors as [File.Unlock].
func (f *File) Find(ctx context.Context, providers []Provider) (Found, error) {
	found, err := race(ctx, f.attempts(providers), f.find, func(f Found) { clear(f.W) })
	if err != nil {
		return Found{}, fmt.Errorf("unlock vault %s: %w", f.VaultID(), err)
	}
	return found, nil
}

func (f *File) find(ctx context.Context, a attempt) (Found, error) {
	w, err := secret(ctx, a.provider, f.doc.slotInfo(a.slot))
	if err != nil {
		return Found{}, err
	}
	p, err := f.doc.ids().openPayload(w, a.slot)
	if err != nil {
		clear(w)
		return Found{}, err
	}
	p.wipe()
	return Found{Slot: blockcrypt.ID(a.slot.ID), Kind: a.slot.Kind, W: w}, nil
}

// Test asks the providers for the secret of one slot, and returns nil if it opens it, and else the errors of [File.Unlock]:
// [ErrNoSlot] if no provider fits it.
func (f *File) Test(ctx context.Context, slot blockcrypt.ID, providers []Provider) error {
	all := f.attempts(providers)
	others := func(a attempt) bool { return blockcrypt.ID(a.slot.ID) != slot }
	all.cheap = slices.DeleteFunc(all.cheap, others)
	for i := range all.others {
		all.others[i] = slices.DeleteFunc(all.others[i], others)
	}
	found, err := race(ctx, all, f.find, func(f Found) { clear(f.W) })
	clear(found.W)
	return err
}

// attempt is one slot and a provider of its kind.
type attempt struct {
	slot     *slotDocument
	provider Provider
}

// attempts are grouped by what they cost. Those of one row are made one after the other, the rows of others at once.
type attempts struct {
	cheap  []attempt   // computed here, before all others
	others [][]attempt // rows
}

// attempts returns all pairs of a slot and a provider that fits.
func (f *File) attempts(providers []Provider) (all attempts) {
	var derived []attempt
	for i := range f.doc.Slots {
		s := &f.doc.Slots[i]
		for _, p := range providers {
			a := attempt{s, p}
			switch {
			case p.Kind() != s.Kind:
			case s.KDF != nil: // each takes much memory
				derived = append(derived, a)
			case s.Provider == nil:
				all.cheap = append(all.cheap, a)
			default:
				all.others = append(all.others, []attempt{a})
			}
		}
	}
	if derived != nil {
		all.others = append(all.others, derived)
	}
	return all
}

// result is what became of an attempt.
type result[T any] struct {
	attempt attempt
	value   T
	err     error
}

// race makes the attempts until one succeeds or tells that the file was altered. What else succeeds is discarded.
func race[T any](ctx context.Context, all attempts, try func(context.Context, attempt) (T, error), discard func(T)) (first T, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed failures
	for _, a := range all.cheap {
		if err := ctx.Err(); err != nil {
			return first, err
		}
		v, err := try(ctx, a)
		if err == nil || errors.Is(err, ErrAltered) {
			return v, err
		}
		failed.add(a, err)
	}
	results := make(chan result[T])
	var rows sync.WaitGroup
	for _, row := range all.others {
		rows.Go(func() {
			for _, a := range row {
				if ctx.Err() != nil {
					return
				}
				v, err := try(ctx, a)
				results <- result[T]{a, v, err}
			}
		})
	}
	go func() {
		rows.Wait()
		close(results)
	}()
	won := false
	var altered error
	for r := range results {
		switch {
		case r.err == nil && (won || altered != nil):
			discard(r.value)
		case r.err == nil:
			first, won = r.value, true
			cancel()
		case errors.Is(r.err, ErrAltered) && !won:
			altered = r.err
			cancel()
		case altered == nil && !won:
			failed.add(r.attempt, r.err)
		}
	}
	switch {
	case won:
		return first, nil
	case altered != nil:
		return first, altered
	case ctx.Err() != nil:
		return first, ctx.Err()
	}
	return first, failed.err()
}

// failures are why the attempts did not open anything.
type failures struct {
	tried bool // one was tried to the end
	errs  []error
}

func (f *failures) add(a attempt, err error) {
	switch {
	case errors.Is(err, errOtherSlot):
		return
	case errors.Is(err, errCommitment):
		f.tried = true
		if a.slot.Provider == nil {
			return // it is said by ErrWrongKey
		}
		err = fmt.Errorf("%s: what it made of the slot is another secret", a.slot.Kind)
	case errors.Is(err, ErrRefused):
		f.tried = true
	}
	f.errs = append(f.errs, fmt.Errorf("slot %s: %w", blockcrypt.ID(a.slot.ID), err))
}

func (f *failures) err() error {
	err := ErrNoSlot
	if f.tried {
		err = ErrWrongKey
	}
	for _, e := range f.errs {
		err = fmt.Errorf("%w; %w", err, e)
	}
	return err
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
