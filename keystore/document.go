package keystore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"envfs/blockcrypt"
)

const (
	formatName    = "envfs"
	formatVersion = 0 // a draft
)

// document is the JSON of a key file. Its one accepted spelling is what encode returns.
type document struct {
	Format     string         `json:"format"`
	Version    uint32         `json:"version"`
	Vault      idText         `json:"vault"`
	Domain     idText         `json:"domain"`
	Generation uint64         `json:"generation"`
	Created    timeText       `json:"created"`
	Changed    timeText       `json:"changed"`
	Suite      uint8          `json:"suite"`
	BlockSize  uint32         `json:"block_size"`
	SmallFile  uint32         `json:"small_file_size"`
	ExtentSize uint32         `json:"extent_size"`
	RootKey    hexText        `json:"root_key"` // fingerprint
	Slots      []slotDocument `json:"slots"`
	Keyring    []byte         `json:"keyring"` // nonce, ciphertext, tag
}

type slotDocument struct {
	ID            idText            `json:"id"`
	Kind          string            `json:"kind"`
	Label         string            `json:"label"`
	Created       timeText          `json:"created"`
	KDF           *kdfDocument      `json:"kdf,omitempty"`      // passphrase only
	Provider      *providerDocument `json:"provider,omitempty"` // kinds that this package does not know
	Salt          hexText           `json:"salt"`
	Commitment    hexText           `json:"commitment"`
	PublicKey     []byte            `json:"public_key"`
	RootKey       hexText           `json:"root_key"`        // fingerprint of the root key in the payload
	Renewed       uint64            `json:"renewed"`         // generation in which the payload was sealed
	Payload       []byte            `json:"payload"`         // nonce, ciphertext, tag
	SealedRootKey []byte            `json:"sealed_root_key"` // encapsulated key, ciphertext, tag
}

type providerDocument struct {
	Key     string   `json:"key"`
	Wrapped []byte   `json:"wrapped"`
	Since   timeText `json:"since"` // when it was wrapped
}

type kdfDocument struct {
	Salt        hexText `json:"salt"`
	MemoryKiB   uint32  `json:"memory_kib"`
	Passes      uint32  `json:"passes"`
	Parallelism uint8   `json:"parallelism"`
}

// encode returns the body of the key file: indented JSON and a newline.
func (d *document) encode() ([]byte, error) {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// decode reads a body. Since the body must be the very bytes that encode makes, unknown and repeated fields, other
// spellings and trailing data are all refused.
func (d *document) decode(body []byte) error {
	if err := json.Unmarshal(body, d); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	again, err := d.encode()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if !bytes.Equal(again, body) {
		return fmt.Errorf("%w: unknown, repeated or unusual fields", ErrInvalid)
	}
	return nil
}

// check holds all values against their bounds.
func (d *document) check() error {
	switch {
	case blockcrypt.ID(d.Vault).IsZero():
		return fmt.Errorf("vault id: %w", ErrInvalid)
	case !blockcrypt.ID(d.Domain).IsZero():
		return fmt.Errorf("key file of a domain, which this version does not know: %w", ErrInvalid)
	case d.Generation == 0 || d.Generation == 1<<64-1:
		return fmt.Errorf("generation %d: %w", d.Generation, ErrInvalid)
	case len(d.Slots) == 0 || len(d.Slots) > MaxSlots:
		return fmt.Errorf("%d slots, not 1 to %d: %w", len(d.Slots), MaxSlots, ErrInvalid)
	case len(d.Keyring) < aeadOverhead || len(d.Keyring) > aeadOverhead+maxKeyring:
		return fmt.Errorf("keyring of %d bytes: %w", len(d.Keyring), ErrInvalid)
	}
	params := Params{d.Suite, d.BlockSize, d.SmallFile, d.ExtentSize}
	if err := params.check(); err != nil {
		return err
	}
	for i := range d.Slots {
		s := &d.Slots[i]
		if err := s.check(); err != nil {
			return fmt.Errorf("slot %d: %w", i+1, err)
		}
		if s.Renewed == 0 || s.Renewed > d.Generation {
			return fmt.Errorf("slot %d renewed in generation %d: %w", i+1, s.Renewed, ErrInvalid)
		}
		for _, other := range d.Slots[:i] {
			if other.ID == s.ID {
				return fmt.Errorf("slots with the same id: %w", ErrInvalid)
			}
		}
	}
	return d.checkWork(KDFParams{})
}

// checkWork holds the sum of all slots' costs, and of one more, against its cap.
func (d *document) checkWork(more KDFParams) error {
	work := more.work()
	for i := range d.Slots {
		if k := d.Slots[i].KDF; k != nil {
			work += k.params().work()
		}
	}
	if work > maxKDFSum {
		return fmt.Errorf("key derivations of all slots together write %d GiB, more than %d: %w", work>>20, maxKDFSum>>20, ErrInvalid)
	}
	return nil
}

func (s *slotDocument) check() error {
	switch {
	case blockcrypt.ID(s.ID).IsZero():
		return fmt.Errorf("id: %w", ErrInvalid)
	case !validKind(s.Kind):
		return fmt.Errorf("kind %q: %w", s.Kind, ErrInvalid)
	case !validLabel(s.Label):
		return fmt.Errorf("label: %w", ErrInvalid)
	case (s.KDF != nil) != (s.Kind == KindPassphrase):
		return fmt.Errorf("key derivation in a slot of kind %q: %w", s.Kind, ErrInvalid)
	case s.Provider != nil && ownKind(s.Kind):
		return fmt.Errorf("provider's data in a slot of kind %q: %w", s.Kind, ErrInvalid)
	case len(s.PublicKey) != publicKeySize:
		return fmt.Errorf("public key of %d bytes: %w", len(s.PublicKey), ErrInvalid)
	case len(s.Payload) != aeadOverhead+payloadSize:
		return fmt.Errorf("payload of %d bytes: %w", len(s.Payload), ErrInvalid)
	case len(s.SealedRootKey) != sealedRootKeySize:
		return fmt.Errorf("sealed root key of %d bytes: %w", len(s.SealedRootKey), ErrInvalid)
	}
	if s.Provider != nil {
		return s.Provider.check()
	}
	if s.KDF == nil {
		return nil
	}
	return s.KDF.params().check()
}

func (p *providerDocument) check() error {
	switch {
	case p.Key == "" || !validText(p.Key, MaxProviderKey):
		return fmt.Errorf("name of the master key: %w", ErrInvalid)
	case len(p.Wrapped) == 0 || len(p.Wrapped) > MaxWrapped:
		return fmt.Errorf("%d bytes of a provider: %w", len(p.Wrapped), ErrInvalid)
	}
	return nil
}

// ownKind tells whether this package makes W for slots of a kind by itself.
func ownKind(kind string) bool {
	return kind == KindPassphrase || kind == KindKeyFile || kind == KindRecovery
}

// validKind tells whether s may be a kind: lower-case letters, digits and hyphens. A file may hold slots of kinds that
// this build has no provider for.
func validKind(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxKind
}

func validLabel(s string) bool { return validText(s, MaxLabel) }

// validText tells whether s is printable UTF-8 of at most limit bytes.
func validText(s string, limit int) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s) && len(s) <= limit
}

func (k *kdfDocument) params() KDFParams { return KDFParams{k.MemoryKiB, k.Passes, k.Parallelism} }

func (d *document) slotInfo(s *slotDocument) SlotInfo {
	info := SlotInfo{
		Vault:   blockcrypt.ID(d.Vault),
		Domain:  blockcrypt.ID(d.Domain),
		ID:      blockcrypt.ID(s.ID),
		Kind:    s.Kind,
		Label:   s.Label,
		Created: s.Created.Time,
		RootKey: Fingerprint(s.RootKey),
		Renewed: s.Renewed,
	}
	if s.Provider != nil {
		info.Provider = ProviderData{Key: s.Provider.Key, Wrapped: bytes.Clone(s.Provider.Wrapped)}
		info.Wrapped = s.Provider.Since.Time
	}
	if s.KDF != nil {
		info.KDF = s.KDF.params()
		info.KDFSalt = bytes.Clone(s.KDF.Salt[:])
	}
	return info
}

func (d *document) slot(id blockcrypt.ID) int {
	for i := range d.Slots {
		if blockcrypt.ID(d.Slots[i].ID) == id {
			return i
		}
	}
	return -1
}

// clone returns a copy whose slots may be changed as wholes.
func (d *document) clone() document {
	c := *d
	c.Slots = append([]slotDocument(nil), d.Slots...)
	return c
}

// timeText is a time in whole seconds of UTC, spelled as in RFC 3339.
type timeText struct{ time.Time }

func newTime(t time.Time) timeText { return timeText{t.UTC().Truncate(time.Second)} }

func (t timeText) String() string { return t.Format(time.RFC3339) }

func (t timeText) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

func (t *timeText) UnmarshalText(b []byte) (err error) {
	t.Time, err = time.Parse(time.RFC3339, string(b))
	t.Time = t.Time.UTC()
	return err
}

// MarshalJSON overrides that of time.Time.
func (t timeText) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON overrides that of time.Time.
func (t *timeText) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	return t.UnmarshalText([]byte(s))
}
