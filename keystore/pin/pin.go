// Package pin keeps what a client remembers of a vault at each location of its store, so that a store that was set back
// or exchanged is noticed. It lies on this machine, never in the vault, and holds no secret.
package pin

import (
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/keystore"
)

var (
	// ErrSetBack says that the store is older than it was when last seen at this location.
	ErrSetBack = errors.New("store is older than when it was last seen")
	// ErrOtherRoot says that the store has another root under the sequence that was last seen.
	ErrOtherRoot = errors.New("store has another root than the one last seen")
	// ErrOtherKey says that the store's root key neither is nor succeeds the one last seen.
	ErrOtherKey = errors.New("store has another root key than the one last seen")
	// ErrDamaged says that the file of pins is unreadable. Removing it forgets what was seen.
	ErrDamaged = errors.New("file of pins is damaged")
)

// Position is a place in the journal: the number of a batch and its hash.
type Position struct {
	Batch uint64
	Hash  blockcrypt.Hash
}

// Pin is what is remembered of a vault at one location. It is written only after what it names is durable, so one that
// is behind is normal.
type Pin struct {
	RootKey    keystore.Fingerprint
	Generation uint64 // of the key file
	RootSeq    uint64 // highest root seen
	RootHash   blockcrypt.Hash
	Durable    Position // last position known durable
}

// Pins are the pins of one vault. Its methods may not be called at the same time.
type Pins struct {
	dir   string
	vault blockcrypt.ID
	at    map[string]Pin
}

// At returns the pin of a location, and whether the vault was seen there before.
func (p Pins) At(location string) (Pin, bool) {
	pin, ok := p.at[location]
	return pin, ok
}

// Newest returns the location where the highest root was seen and its pin, and whether there is any: with a location not
// seen before, it tells whether the vault was newer elsewhere.
func (p Pins) Newest() (location string, pin Pin, ok bool) {
	for l, q := range p.at {
		if !ok || q.RootSeq > pin.RootSeq || q.RootSeq == pin.RootSeq && l < location {
			location, pin, ok = l, q, true
		}
	}
	return location, pin, ok
}

// Check compares what was found at a location with its pin. A location not seen before passes; [Pins.At] tells it apart.
// follows reports whether the root key that was found is proven to be or to succeed the one with the fingerprint rootKey,
// last seen in that generation of the key file: [keystore.Vault.Follows]. The errors are [ErrOtherKey], [ErrSetBack] and
// [ErrOtherRoot].
//
// Durable is not compared: where the journal ends is known only after its replay, and on which line it lies is for the
// file system to say.
func (p Pins) Check(location string, found Pin, follows func(rootKey keystore.Fingerprint, generation uint64) bool) error {
	last, ok := p.at[location]
	switch {
	case !ok:
		return nil
	case found.Generation < last.Generation:
		return fmt.Errorf("key file of generation %d, last seen %d: %w", found.Generation, last.Generation, ErrSetBack)
	case found.RootSeq < last.RootSeq:
		return fmt.Errorf("root %d, last seen %d: %w", found.RootSeq, last.RootSeq, ErrSetBack)
	case found.RootKey != last.RootKey && !follows(last.RootKey, last.Generation):
		return ErrOtherKey
	case found.RootSeq == last.RootSeq && found.RootHash != last.RootHash:
		return fmt.Errorf("root %d: %w", found.RootSeq, ErrOtherRoot)
	}
	return nil
}
