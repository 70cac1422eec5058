package keystore

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	"envfs/blockcrypt"
)

// File is a key file as it is read without a key. It is immutable and safe for concurrent use. Nothing in it is
// authenticated before [File.Unlock] has succeeded.
type File struct {
	data []byte // as stored
	body []byte // what the MAC is over: all before the last line
	mac  [sha256.Size]byte
	doc  document
}

// Parse reads a key file without a key and checks all that can be checked so: its form, the plain SHA-256, every bound,
// and the costs of the slots before any is paid. It accepts exactly the bytes that envfs writes. Errors are
// [ErrNotKeyFile], [ErrNewerVersion], [ErrDecayed] and [ErrInvalid]. It keeps a copy of data.
func Parse(data []byte) (*File, error) {
	f, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	return f, nil
}

func parse(data []byte) (*File, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%d bytes: %w", len(data), ErrNotKeyFile)
	}
	f := &File{data: bytes.Clone(data)}
	version, ours := recognise(f.data)
	var trailer trailerState
	f.body, f.mac, trailer = cutTrailer(f.data)
	switch {
	case !ours && trailer == trailerMissing:
		return nil, ErrNotKeyFile
	case trailer == trailerWrong:
		return nil, ErrDecayed
	case !ours:
		return nil, ErrNotKeyFile // the hash fits: it was written so, by something else
	case version > formatVersion:
		return nil, ErrNewerVersion // whatever its last line looks like
	case trailer == trailerMissing:
		return nil, ErrDecayed
	}
	if err := f.doc.decode(f.body); err != nil {
		return nil, err
	}
	if err := f.doc.check(); err != nil {
		return nil, err
	}
	return f, nil
}

// Bytes returns the key file as it is stored. The caller must not change it.
func (f *File) Bytes() []byte { return f.data }

// VaultID returns the id of the vault that the key file belongs to.
func (f *File) VaultID() blockcrypt.ID { return blockcrypt.ID(f.doc.Vault) }

// Suite returns the vault's cipher suite.
func (f *File) Suite() uint8 { return f.doc.Suite }

// Params returns the vault's suite and sizes.
func (f *File) Params() Params {
	return Params{Suite: f.doc.Suite, BlockSize: f.doc.BlockSize, SmallFile: f.doc.SmallFile, ExtentSize: f.doc.ExtentSize}
}

// Generation returns the number of the key file: 1 when the vault is made, one more at each change.
func (f *File) Generation() uint64 { return f.doc.Generation }

// Created returns when the vault was made.
func (f *File) Created() time.Time { return f.doc.Created.Time }

// Changed returns when this generation of the key file was made.
func (f *File) Changed() time.Time { return f.doc.Changed.Time }

// Fingerprint returns the fingerprint of the root key.
func (f *File) Fingerprint() Fingerprint { return Fingerprint(f.doc.RootKey) }

// Slots returns what is public about the slots, in the order of the file.
func (f *File) Slots() []SlotInfo {
	infos := make([]SlotInfo, len(f.doc.Slots))
	for i := range infos {
		infos[i] = f.doc.slotInfo(&f.doc.Slots[i])
	}
	return infos
}
