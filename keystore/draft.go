package keystore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"envfs/blockcrypt"
)

// draft is the next key file while it is put together.
type draft struct {
	rnd     io.Reader
	doc     document
	opener  blockcrypt.ID
	w       []byte // of the opener
	rootKey []byte
	ring    keyring
	fresh   [][]byte // keys on the heap, wiped at the end
}

// wipe wipes the keys that the draft made.
func (d *draft) wipe() {
	for _, k := range d.fresh {
		clear(k)
	}
}

// newKey draws 32 bytes that are wiped with the draft.
func (d *draft) newKey() ([]byte, error) {
	k := make([]byte, blockcrypt.KeySize)
	d.fresh = append(d.fresh, k)
	_, err := io.ReadFull(d.rnd, k)
	return k, err
}

// rotate draws a new root key and a KEK of a new epoch. The former root key stays reachable for finish, which keeps it
// only if a slot names it.
func (d *draft) rotate() error {
	if len(d.ring.epochs) >= MaxEpochs {
		return ErrTooManyEpochs
	}
	epoch := uint32(1)
	if n := len(d.ring.epochs); n > 0 {
		if epoch = d.ring.epochs[n-1] + 1; epoch == 0 {
			return ErrTooManyEpochs
		}
	}
	if d.rootKey != nil {
		d.ring.earlier = append(d.ring.earlier, d.rootKey)
	}
	var err error
	if d.rootKey, err = d.newKey(); err != nil {
		return err
	}
	kek, err := d.newKey()
	if err != nil {
		return err
	}
	d.ring.epochs = append(d.ring.epochs, epoch)
	d.ring.keks = append(d.ring.keks, kek)
	return nil
}

// makeSlot asks the provider of s for its secret, and returns a slot for it.
func (d *draft) makeSlot(ctx context.Context, now time.Time, s NewSlot) (slot slotDocument, w []byte, err error) {
	if s.Provider == nil {
		return slot, nil, errors.New("no provider")
	}
	slot = slotDocument{Kind: s.Provider.Kind(), Label: s.Label, Created: newTime(now)}
	if s.Kind != "" && s.Kind != slot.Kind {
		return slot, nil, fmt.Errorf("provider is of kind %q, not %q", slot.Kind, s.Kind)
	}
	if !validKind(slot.Kind) || !validLabel(slot.Label) {
		return slot, nil, fmt.Errorf("kind or label of more than %d bytes or with unprintable characters: %w", MaxLabel, ErrInvalid)
	}
	id, err := blockcrypt.NewID(d.rnd)
	if err != nil {
		return slot, nil, err
	}
	slot.ID = idText(id)
	if slot.Kind == KindPassphrase {
		if s.KDF == (KDFParams{}) {
			s.KDF, _ = DefaultKDF()
		}
		if err := s.KDF.check(); err != nil {
			return slot, nil, err
		}
		if err := d.doc.checkWork(s.KDF); err != nil {
			return slot, nil, err
		}
		slot.KDF = &kdfDocument{MemoryKiB: s.KDF.MemoryKiB, Passes: s.KDF.Passes, Parallelism: s.KDF.Parallelism}
		if _, err := io.ReadFull(d.rnd, slot.KDF.Salt[:]); err != nil {
			return slot, nil, err
		}
	} else if s.KDF != (KDFParams{}) {
		return slot, nil, fmt.Errorf("a slot of kind %q has no key derivation: %w", slot.Kind, ErrInvalid)
	}
	if p, ok := s.Provider.(Wrapper); ok {
		w, slot.Provider, err = wrap(ctx, now, p, d.doc.slotInfo(&slot))
	} else {
		w, err = secret(ctx, s.Provider, d.doc.slotInfo(&slot))
	}
	if err != nil {
		return slot, nil, err
	}
	d.fresh = append(d.fresh, w)
	seed, err := d.newKey()
	if err != nil {
		return slot, nil, err
	}
	priv, err := kem().NewPrivateKey(seed)
	if err != nil {
		return slot, nil, err
	}
	slot.PublicKey = priv.PublicKey().Bytes()
	err = d.doc.ids().sealPayload(d.rnd, w, &slot, d.doc.Generation, payload{seed: seed, rootKey: d.rootKey})
	return slot, w, err
}

// addSlot makes a slot and appends it, or puts it at index at if that is not negative.
func (d *draft) addSlot(ctx context.Context, now time.Time, s NewSlot, at int) (id blockcrypt.ID, w []byte, err error) {
	if at < 0 && len(d.doc.Slots) >= MaxSlots {
		return id, nil, fmt.Errorf("add slot: %w", ErrTooManySlots)
	}
	slot, w, err := d.makeSlot(ctx, now, s)
	if err != nil {
		return id, nil, fmt.Errorf("add slot: %w", err)
	}
	if at < 0 {
		d.doc.Slots = append(d.doc.Slots, slot)
	} else {
		d.doc.Slots[at] = slot
	}
	return blockcrypt.ID(slot.ID), w, nil
}

// renew seals the opener's payload anew, with the root key in use.
func (d *draft) renew() error {
	at := d.doc.slot(d.opener)
	if at < 0 || d.w == nil {
		return nil
	}
	s := &d.doc.Slots[at]
	p, err := d.doc.ids().openPayload(d.w, s)
	if err != nil {
		return err
	}
	defer p.wipe()
	return d.doc.ids().sealPayload(d.rnd, d.w, s, d.doc.Generation, payload{seed: p.seed, rootKey: d.rootKey})
}

// finish seals root key and keyring, and returns the vault with the finished key file.
func (d *draft) finish() (*Vault, error) {
	i := d.doc.ids()
	fp := i.fingerprint(d.rootKey)
	d.doc.RootKey = hexText(fp)
	if err := d.dropEarlier(fp); err != nil {
		return nil, err
	}
	for n := range d.doc.Slots {
		s := &d.doc.Slots[n]
		sealed, err := i.sealRootKey(s, d.doc.Generation, fp, d.rootKey)
		if err != nil {
			return nil, fmt.Errorf("slot %s: seal root key: %w", blockcrypt.ID(s.ID), err)
		}
		s.SealedRootKey = sealed
	}
	plain := d.ring.encode()
	defer clear(plain)
	key := i.keyringKey(d.rootKey, d.doc.Generation)
	defer clear(key)
	var err error
	if d.doc.Keyring, err = seal(d.rnd, key, plain, i.keyringAAD(d.doc.Generation)); err != nil {
		return nil, err
	}
	body, err := d.doc.encode()
	if err != nil {
		return nil, err
	}
	f, err := parse(appendTrailer(body, i.mac(d.rootKey, body)))
	if err != nil {
		return nil, err
	}
	return newVault(f, d.opener, d.w, d.rootKey, d.ring)
}

// dropEarlier keeps of the earlier root keys exactly those that some slot's payload names.
func (d *draft) dropEarlier(newest Fingerprint) error {
	known := make(map[Fingerprint][]byte, len(d.ring.earlier))
	for _, k := range d.ring.earlier {
		known[d.doc.ids().fingerprint(k)] = k
	}
	var kept [][]byte
	for n := range d.doc.Slots {
		fp := Fingerprint(d.doc.Slots[n].RootKey)
		if fp == newest {
			continue
		}
		k, ok := known[fp]
		if !ok {
			return fmt.Errorf("slot %s names a root key that is not in the keyring: %w", blockcrypt.ID(d.doc.Slots[n].ID), ErrInvalid)
		}
		if k != nil {
			kept = append(kept, k)
			known[fp] = nil // once
		}
	}
	d.ring.earlier = kept
	return nil
}
