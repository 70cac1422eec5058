package blockcrypt

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
)

// WrapSize is the length of WrappedDEK.Wrap in bytes.
const WrapSize = nonceSize + KeySize + tagSize

// NewDEK draws a data key for the file and wraps it under kek, the KEK of epoch. The caller wipes dek after use.
func (v Vault) NewDEK(rnd io.Reader, kek []byte, epoch uint32, file ID, number uint32) (dek [32]byte, w WrappedDEK, err error) {
	if _, err = io.ReadFull(rnd, dek[:]); err != nil {
		return dek, w, fmt.Errorf("draw a data key: %w", err)
	}
	w, err = v.WrapDEK(rnd, kek, epoch, file, number, epoch, &dek)
	return dek, w, err
}

// WrapDEK wraps the file's data key of that number, which was made in the key epoch born, under kek, the KEK of epoch.
func (v Vault) WrapDEK(rnd io.Reader, kek []byte, epoch uint32, file ID, number, born uint32, dek *[32]byte) (WrappedDEK, error) {
	w := WrappedDEK{Number: number, Born: born, Epoch: epoch}
	err := v.wrapDEK(rnd, kek, file, &w, dek)
	if err != nil {
		return WrappedDEK{}, fmt.Errorf("wrap data key %d of file %s: %w", number, file, err)
	}
	return w, nil
}

func (v Vault) wrapDEK(rnd io.Reader, kek []byte, file ID, w *WrappedDEK, dek *[32]byte) error {
	if err := v.Suite.check(); err != nil {
		return err
	}
	if w.Number == 0 {
		return errors.New("data keys are numbered from 1")
	}
	s, err := v.dekSealer(kek, file, w)
	if err != nil {
		return err
	}
	w.Commit = v.commitment(dek, file, w.Number)
	w.Wrap, err = s.seal(make([]byte, 0, WrapSize), rnd, dek[:], v.dekAAD(file, w))
	return err
}

// UnwrapDEK returns the data key in w, whose commitment it has checked. The caller wipes it after use.
func (v Vault) UnwrapDEK(keks KEKs, file ID, w WrappedDEK) (dek [32]byte, err error) {
	if err = v.unwrapDEK(keks, file, &w, &dek); err != nil {
		clear(dek[:])
		return dek, fmt.Errorf("unwrap data key %d of file %s: %w", w.Number, file, err)
	}
	return dek, nil
}

func (v Vault) unwrapDEK(keks KEKs, file ID, w *WrappedDEK, dek *[32]byte) error {
	if err := v.Suite.check(); err != nil {
		return err
	}
	if len(w.Wrap) != WrapSize || w.Number == 0 {
		return damaged("wrapped data key")
	}
	kek, err := findKEK(keks, w.Epoch)
	if err != nil {
		return err
	}
	s, err := v.dekSealer(kek, file, w)
	if err != nil {
		return err
	}
	if _, err := s.open(dek[:0], w.Wrap, v.dekAAD(file, w)); err != nil {
		return err
	}
	// Before anything is opened with it: a key other than the one committed to could open a block to other bytes.
	commit := v.commitment(dek, file, w.Number)
	if subtle.ConstantTimeCompare(commit[:], w.Commit[:]) != 1 {
		return damaged("data key's commitment")
	}
	return nil
}

// RewrapDEK wraps the data key in w anew, under the newest KEK of a vault. It stays the same key, made when it was.
func (v Vault) RewrapDEK(rnd io.Reader, keks KEKs, kek []byte, epoch uint32, file ID, w WrappedDEK) (WrappedDEK, error) {
	dek, err := v.UnwrapDEK(keks, file, w)
	if err != nil {
		return WrappedDEK{}, err
	}
	defer clear(dek[:])
	return v.WrapDEK(rnd, kek, epoch, file, w.Number, w.Born, &dek)
}

func (v Vault) dekSealer(kek []byte, file ID, w *WrappedDEK) (sealer, error) {
	return newSealer(Derive(kek, nil, KeySize, "dek",
		[]byte{byte(v.Suite)}, v.ID[:], v.Domain[:], U32(w.Epoch), file[:], U32(w.Number)))
}

func (v Vault) dekAAD(file ID, w *WrappedDEK) []byte {
	return Context("dek", v.ID[:], v.Domain[:], U32(w.Epoch), file[:], U32(w.Number), U32(w.Born))
}

// commitment binds a data key to its file and number, so that no ciphertext opens under two data keys.
func (v Vault) commitment(dek *[32]byte, file ID, number uint32) [32]byte {
	return [32]byte(Derive(dek[:], nil, 32, "commit", []byte{byte(v.Suite)}, file[:], U32(number)))
}
