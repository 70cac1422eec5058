package keystore

import (
	"context"
	"encoding/hex"
	"time"

	"envfs/blockcrypt"
)

// The kinds of slots that this package knows.
const (
	KindPassphrase = "passphrase"
	KindKeyFile    = "keyfile"
	KindRecovery   = "recovery"
)

// Fingerprint names a root key without telling it.
type Fingerprint [32]byte

// String returns f in hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// A Provider yields the secret W of slots of one kind. Whether W is the right one is for the slot's commitment to say,
// so a provider has no error for a wrong key.
type Provider interface {
	// Kind returns the kind of the slots that this provider serves.
	Kind() string
	// Secret returns the 32 bytes of W for the slot s. The caller wipes them.
	Secret(ctx context.Context, s SlotInfo) (W []byte, err error)
}

// SlotInfo is what is public about a slot. It is only data: nothing in it is followed.
type SlotInfo struct {
	Vault   blockcrypt.ID
	Domain  blockcrypt.ID // zero: the vault itself
	ID      blockcrypt.ID
	Kind    string
	Label   string
	Created time.Time
	KDF     KDFParams // passphrase only
	KDFSalt []byte    // passphrase only
	// Provider is what the slot keeps for its provider; empty for the kinds that this package knows.
	Provider ProviderData
	Wrapped  time.Time // when the provider wrapped it
	// RootKey names the root key that the slot's payload holds: the file's own, or an earlier one if others rotated it
	// since this slot's holder last opened the vault for writing.
	RootKey Fingerprint
	Renewed uint64 // generation of the key file in which the payload was sealed
}

// NewSlot describes a slot to be made.
type NewSlot struct {
	Kind     string // may be empty: the provider's kind
	Label    string // for people; at most MaxLabel bytes of printable UTF-8
	Provider Provider
	KDF      KDFParams // passphrase only; zero: that of DefaultKDF
}
