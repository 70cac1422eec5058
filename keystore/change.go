package keystore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"envfs/blockcrypt"
)

// Every change below returns a new vault with a key file of the next generation and leaves v as it is. The caller
// stores the file, commits it, and closes both vaults in the end. rnd must be a cryptographic source; HPKE draws from
// crypto/rand besides.

// Create makes the first key file of a new vault: a root key, key epoch 1, and one slot for each of slots, of which the
// first counts as the one that opened it.
func Create(rnd io.Reader, now time.Time, p Params, slots []NewSlot) (*Vault, error) {
	v, err := create(rnd, now, p, slots)
	if err != nil {
		return nil, fmt.Errorf("create key file: %w", err)
	}
	return v, nil
}

func create(rnd io.Reader, now time.Time, p Params, slots []NewSlot) (*Vault, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if len(slots) == 0 {
		return nil, errors.New("no slots")
	}
	vault, err := blockcrypt.NewID(rnd)
	if err != nil {
		return nil, err
	}
	d := &draft{rnd: rnd, doc: document{
		Format: formatName, Version: formatVersion, Vault: idText(vault), Generation: 1,
		Created: newTime(now), Changed: newTime(now),
		Suite: p.Suite, BlockSize: p.BlockSize, SmallFile: p.SmallFile, ExtentSize: p.ExtentSize,
	}}
	defer d.wipe()
	if err := d.rotate(); err != nil {
		return nil, err
	}
	for i, s := range slots {
		id, w, err := d.addSlot(context.Background(), now, s, -1)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			d.opener, d.w = id, w
		}
	}
	return d.finish()
}

// change runs edit on a draft of the next generation and finishes it.
func (v *Vault) change(rnd io.Reader, now time.Time, op string, edit func(d *draft) error) (*Vault, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.rootKey == nil {
		return nil, fmt.Errorf("%s: %w", op, ErrClosed)
	}
	d := &draft{
		rnd: rnd, doc: v.file.doc.clone(), opener: v.opener, w: v.w, rootKey: v.rootKey,
		ring: keyring{slices.Clone(v.epochs), slices.Clone(v.keks), slices.Clone(v.earlier)},
	}
	defer d.wipe()
	d.doc.Generation++
	d.doc.Changed = newTime(now)
	err := edit(d)
	if err == nil {
		var next *Vault
		if next, err = d.finish(); err == nil {
			return next, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", op, err)
}

// AddSlot returns the vault with one more slot.
func (v *Vault) AddSlot(ctx context.Context, rnd io.Reader, now time.Time, s NewSlot) (*Vault, error) {
	return v.change(rnd, now, "add slot", func(d *draft) error {
		_, _, err := d.addSlot(ctx, now, s, -1)
		return err
	})
}

// RemoveSlot returns the vault without the slot id, under a new root key and a new key epoch, which are sealed to the
// remaining slots without asking their holders. The last slot is refused ([ErrLastSlot]), and without force the one
// that opened the vault ([ErrOpeningSlot]).
func (v *Vault) RemoveSlot(rnd io.Reader, now time.Time, id blockcrypt.ID, force bool) (*Vault, error) {
	return v.change(rnd, now, "remove slot "+id.String(), func(d *draft) error {
		at := d.doc.slot(id)
		switch {
		case at < 0:
			return ErrUnknownSlot
		case len(d.doc.Slots) == 1:
			return ErrLastSlot
		case id == d.opener && !force:
			return ErrOpeningSlot
		}
		d.doc.Slots = slices.Delete(d.doc.Slots, at, at+1)
		if id == d.opener {
			d.opener, d.w = blockcrypt.ID{}, nil
		}
		if err := d.rotate(); err != nil {
			return err
		}
		return d.renew()
	})
}

// ReplaceSlot returns the vault with a slot for s in place of the slot old, under a new root key and a new key epoch. If
// old opened the vault, the new slot counts as the one that did.
func (v *Vault) ReplaceSlot(ctx context.Context, rnd io.Reader, now time.Time, old blockcrypt.ID, s NewSlot) (*Vault, error) {
	return v.change(rnd, now, "replace slot "+old.String(), func(d *draft) error {
		at := d.doc.slot(old)
		if at < 0 {
			return ErrUnknownSlot
		}
		if err := d.rotate(); err != nil {
			return err
		}
		d.doc.Slots[at].KDF = nil // its cost ends with it
		id, w, err := d.addSlot(ctx, now, s, at)
		if err != nil {
			return err
		}
		if d.opener == old {
			d.opener, d.w = id, w
			return nil
		}
		return d.renew()
	})
}

// Rotate returns the vault under a new root key and a new key epoch, with the same slots.
func (v *Vault) Rotate(rnd io.Reader, now time.Time) (*Vault, error) {
	return v.change(rnd, now, "rotate keys", func(d *draft) error {
		if err := d.rotate(); err != nil {
			return err
		}
		return d.renew()
	})
}

// RewrapSlot returns the vault with W of the slot id wrapped anew, by the newest version of the same master key. That it
// opens the slot as before is found out first. Errors are the provider's, [ErrNoVersions] among them.
func (v *Vault) RewrapSlot(ctx context.Context, rnd io.Reader, now time.Time, id blockcrypt.ID, p Wrapper) (*Vault, error) {
	return v.change(rnd, now, "rewrap slot "+id.String(), func(d *draft) error {
		at := d.doc.slot(id)
		if at < 0 {
			return ErrUnknownSlot
		}
		s := &d.doc.Slots[at]
		if s.Kind != p.Kind() || s.Provider == nil {
			return fmt.Errorf("slot of kind %q, not %q", s.Kind, p.Kind())
		}
		wrapped, err := p.Rewrap(ctx, d.doc.slotInfo(s))
		if err != nil {
			return err
		}
		s.Provider = &providerDocument{Key: s.Provider.Key, Wrapped: wrapped, Since: newTime(now)}
		if err := s.Provider.check(); err != nil {
			return err
		}
		w, err := secret(ctx, p, d.doc.slotInfo(s))
		if err != nil {
			return fmt.Errorf("open what was wrapped anew: %w", err)
		}
		defer clear(w)
		opened, err := d.doc.ids().openPayload(w, s)
		if err != nil {
			return fmt.Errorf("open what was wrapped anew: %w", err)
		}
		opened.wipe()
		return nil
	})
}

// NeedsRenewal reports whether the opening slot's payload names an older root key, so that [Vault.RenewPayload] is due
// when the vault is next opened for writing.
func (v *Vault) NeedsRenewal() bool {
	s := v.OpenedBy()
	return !s.ID.IsZero() && s.RootKey != v.file.Fingerprint()
}

// RenewPayload returns the vault with the opening slot's payload naming the root key in use. The earlier one leaves the
// keyring with the last slot that names it.
func (v *Vault) RenewPayload(rnd io.Reader, now time.Time) (*Vault, error) {
	return v.change(rnd, now, "renew slot", func(d *draft) error { return d.renew() })
}

// Retire returns the vault without the KEKs of the given epochs, which no tree, snapshot or journal may name any more:
// what is still sealed under them is lost. The newest epoch is refused.
func (v *Vault) Retire(rnd io.Reader, now time.Time, epochs ...uint32) (*Vault, error) {
	return v.change(rnd, now, "retire key epochs", func(d *draft) error {
		for _, e := range epochs {
			at, ok := slices.BinarySearch(d.ring.epochs, e)
			switch {
			case !ok:
				return fmt.Errorf("key epoch %d: %w", e, ErrUnknownEpoch)
			case at == len(d.ring.epochs)-1:
				return fmt.Errorf("key epoch %d is the newest", e)
			}
			d.ring.epochs = slices.Delete(d.ring.epochs, at, at+1)
			d.ring.keks = slices.Delete(d.ring.keks, at, at+1)
		}
		return nil
	})
}
