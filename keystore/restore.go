package keystore

import (
	"crypto/hmac"
	"fmt"
	"io"
	"slices"
	"time"

	"envfs/blockcrypt"
)

// RestoreSlots returns the vault with the slots of an older key file, from a backup, in place of its own, under a new root key and a new
// key epoch: what was added since does not open the vault any more, what was removed since opens it again. opened is old
// after it was unlocked, or nil; without it, slots that were removed under a root key which nobody's payload names any more cannot
// come back, and are named by the error. A backup lies where others may write, and the root key is sealed to whatever slots it has: so
// it is refused with [ErrAltered] if it is not what a holder of its root key wrote, and with [ErrWrongKey] if that cannot be told.
func (v *Vault) RestoreSlots(rnd io.Reader, now time.Time, old *File, opened *Vault) (*Vault, error) {
	return v.change(rnd, now, fmt.Sprintf("restore the slots of generation %d", old.Generation()), func(d *draft) error {
		if old.VaultID() != v.file.VaultID() {
			return fmt.Errorf("it is the key file of vault %s: %w", old.VaultID(), ErrInvalid)
		}
		if opened == nil {
			if err := v.vouch(old); err != nil {
				return err
			}
		}
		d.doc.Slots = slices.Clone(old.doc.Slots)
		if opened != nil {
			opened.mu.RLock()
			defer opened.mu.RUnlock()
			if opened.rootKey == nil {
				return ErrClosed
			}
			d.ring.earlier = append(append(d.ring.earlier, opened.rootKey), opened.earlier...)
		}
		if err := d.rotate(); err != nil {
			return err
		}
		if d.doc.slot(d.opener) < 0 {
			d.opener, d.w = blockcrypt.ID{}, nil
			return nil
		}
		return d.renew()
	})
}

// vouch returns nil if one of the root keys that v knows has written f.
func (v *Vault) vouch(f *File) error {
	i := f.doc.ids()
	for _, key := range append([][]byte{v.rootKey}, v.earlier...) {
		if i.fingerprint(key) != f.Fingerprint() {
			continue
		}
		if mac := i.mac(key, f.body); !hmac.Equal(mac[:], f.mac[:]) {
			return fmt.Errorf("mac of the older key file: %w", ErrAltered)
		}
		return nil
	}
	return fmt.Errorf("nothing that the vault knows vouches for the older key file, so a key that opens it is needed: %w", ErrWrongKey)
}
