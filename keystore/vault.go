package keystore

import (
	"fmt"
	"slices"
	"sync"

	"envfs/blockcrypt"
	"envfs/keystore/arena"
)

// Vault is an unlocked key file. It is immutable and safe for concurrent use; only [Vault.Close] must wait until nobody
// uses the vault's keys. It implements blockcrypt.KEKs.
type Vault struct {
	file   *File
	opener blockcrypt.ID // zero: the slot that opened it is removed
	epochs []uint32      // rising

	mu      sync.RWMutex // held while keys are in use, and by Close
	arena   *arena.Arena // nil: closed
	rootKey []byte       // this and the following lie in arena
	w       []byte       // of the opener; nil if that is removed
	keks    [][]byte     // of epochs
	earlier [][]byte     // earlier root keys that some slot names
}

// newVault copies the keys into an arena of the vault's own.
func newVault(f *File, opener blockcrypt.ID, w, rootKey []byte, ring keyring) (*Vault, error) {
	a, err := arena.New(2 + len(ring.keks) + len(ring.earlier))
	if err != nil {
		return nil, err
	}
	v := &Vault{file: f, opener: opener, epochs: slices.Clone(ring.epochs), arena: a}
	keep := func(key []byte) []byte {
		k, kerr := a.Alloc()
		if kerr != nil {
			err = kerr
			return nil
		}
		copy(k.Bytes(), key)
		return k.Bytes()
	}
	v.rootKey = keep(rootKey)
	if !opener.IsZero() {
		v.w = keep(w)
	}
	for _, k := range ring.keks {
		v.keks = append(v.keks, keep(k))
	}
	for _, k := range ring.earlier {
		v.earlier = append(v.earlier, keep(k))
	}
	if err != nil {
		a.Close()
		return nil, fmt.Errorf("keep keys: %w", err)
	}
	return v, nil
}

// KEK returns the key-encryption key of an epoch. It lies in locked memory and must be neither changed nor kept: after
// [Vault.Close] it is gone. The errors are [ErrUnknownEpoch] and [ErrClosed].
func (v *Vault) KEK(epoch uint32) ([]byte, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.arena == nil {
		return nil, ErrClosed
	}
	i, ok := slices.BinarySearch(v.epochs, epoch)
	if !ok {
		return nil, fmt.Errorf("key epoch %d: %w", epoch, ErrUnknownEpoch)
	}
	return v.keks[i], nil
}

// Newest returns the newest key epoch, the one to write under.
func (v *Vault) Newest() uint32 { return v.epochs[len(v.epochs)-1] }

// Epochs returns all key epochs of the keyring, rising.
func (v *Vault) Epochs() []uint32 { return slices.Clone(v.epochs) }

// File returns the key file, which is now known to be authentic.
func (v *Vault) File() *File { return v.file }

// Bytes returns the key file as it is stored. The caller must not change it.
func (v *Vault) Bytes() []byte { return v.file.data }

// Name returns the name under which an attempt that drew r stores the key file.
func (v *Vault) Name(r blockcrypt.R) blockcrypt.Name {
	return blockcrypt.Name{Kind: blockcrypt.KindKeyFile, Seq: v.file.Generation(), R: r}
}

// OpenedBy returns the slot that opened the vault; after its forced removal, the zero SlotInfo.
func (v *Vault) OpenedBy() SlotInfo {
	i := v.file.doc.slot(v.opener)
	if i < 0 {
		return SlotInfo{}
	}
	return v.file.doc.slotInfo(&v.file.doc.Slots[i])
}

// Follows reports whether the vault's root key is proven to be the one named fp, or to succeed it, for a client that
// last saw fp in generation gen of the key file: the root key is that one, or the keyring holds that one, or the
// opening slot's holder vouched for the root key in a later generation than gen. A removed holder, who knows earlier
// root keys and may write to the store, can prove nothing of this to who has seen the vault since.
func (v *Vault) Follows(fp Fingerprint, gen uint64) bool {
	if fp == v.file.Fingerprint() {
		return true
	}
	if s := v.OpenedBy(); s.RootKey == v.file.Fingerprint() && s.Renewed > gen {
		return true
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	i := v.file.doc.ids()
	for _, k := range v.earlier {
		if i.fingerprint(k) == fp {
			return v.arena != nil
		}
	}
	return false
}

// Locked returns nil if the keys lie in memory that is never swapped out or dumped, or else why not, which the user
// should be told.
func (v *Vault) Locked() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.arena == nil {
		return nil
	}
	return v.arena.Locked()
}

// Supersede wipes what only changes of the vault need, once its next key file has been committed: root keys, and the
// secret of the slot that opened it. KEKs stay until [Vault.Close], as somebody may be using one. v cannot be changed
// any more.
func (v *Vault) Supersede() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.arena == nil {
		return
	}
	clear(v.rootKey)
	clear(v.w)
	for _, k := range v.earlier {
		clear(k)
	}
	v.rootKey, v.w, v.earlier = nil, nil, nil
}

// Close wipes the keys. Who still uses a KEK then crashes. Closing twice is allowed.
func (v *Vault) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.arena == nil {
		return
	}
	v.arena.Close()
	v.arena, v.rootKey, v.w, v.keks, v.earlier = nil, nil, nil, nil, nil
}
