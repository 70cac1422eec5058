package keystore

import (
	"crypto/hmac"
	"fmt"
	"io"
	"slices"
	"time"

	"envfs/blockcrypt"
)

// RestoreSlots returns the vault with the slots of an older key file, from a backup, in place of its own, under a new
// root key and a new key epoch: what was added since does not open the vault any more, what was removed since opens it
// again. opened is old after it was unlocked, or nil. The new root key is sealed to the slots' public keys, so a backup
// that somebody else changed is refused ([ErrAltered]): its MAC is checked under its root key, which either the vault's
// keyring still has, as some slot names it, or opened does; else it is refused, too ([ErrUnproven]).
func (v *Vault) RestoreSlots(rnd io.Reader, now time.Time, old *File, opened *Vault) (*Vault, error) {
	return v.change(rnd, now, fmt.Sprintf("restore the slots of generation %d", old.Generation()), func(d *draft) error {
		if old.VaultID() != v.file.VaultID() {
			return fmt.Errorf("it is the key file of vault %s: %w", old.VaultID(), ErrInvalid)
		}
		if opened != nil {
			opened.mu.RLock()
			defer opened.mu.RUnlock()
			if opened.rootKey == nil {
				return ErrClosed
			}
			d.ring.earlier = append(append(d.ring.earlier, opened.rootKey), opened.earlier...)
		}
		if err := old.prove(append(slices.Clone(d.ring.earlier), d.rootKey)); err != nil {
			return err
		}
		d.doc.Slots = slices.Clone(old.doc.Slots)
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

// prove returns nil if who wrote the file had its root key, which must be among rootKeys.
func (f *File) prove(rootKeys [][]byte) error {
	i := f.doc.ids()
	for _, k := range rootKeys {
		if i.fingerprint(k) != f.Fingerprint() {
			continue
		}
		if mac := i.mac(k, f.body); !hmac.Equal(mac[:], f.mac[:]) {
			return fmt.Errorf("mac: %w", ErrAltered)
		}
		return nil
	}
	return fmt.Errorf("%w: give a key that opens it", ErrUnproven)
}
