package keystore

import (
	"fmt"
	"io"
	"slices"
	"time"

	"envfs/blockcrypt"
)

// RestoreSlots returns the vault with the slots of an older key file, from a backup, in place of its own, under a new root key and a new
// key epoch: what was added since does not open the vault any more, what was removed since opens it again. opened is old
// after it was unlocked, or nil; without it, slots that were removed under a root key which nobody's payload names any more cannot
// come back, and are named by the error.
func (v *Vault) RestoreSlots(rnd io.Reader, now time.Time, old *File, opened *Vault) (*Vault, error) {
	return v.change(rnd, now, fmt.Sprintf("restore the slots of generation %d", old.Generation()), func(d *draft) error {
		if old.VaultID() != v.file.VaultID() {
			return fmt.Errorf("it is the key file of vault %s: %w", old.VaultID(), ErrInvalid)
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
