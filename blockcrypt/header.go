package blockcrypt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxDEKs is the largest number of data keys that a header holds.
const MaxDEKs = 64

// wrappedSize is the length of one wrapped data key in a header's prefix in bytes: number, epoch in which it was made,
// epoch of the KEK, commitment, wrap.
const wrappedSize = 4 + 4 + 4 + 32 + WrapSize

// SealHeader seals a file's header that will lie under name. kek is the KEK of epoch; deks are the file's data keys, in
// order of their numbers; inline is the sealed records of the inline blocks, one after the other, of the plaintext
// lengths in h.InlineLen: they are taken over as they are.
func (v Vault) SealHeader(rnd io.Reader, kek []byte, epoch uint32, name string, file ID, deks []WrappedDEK, h *Header, inline []byte) ([]byte, error) {
	obj, err := v.sealHeader(rnd, kek, epoch, name, file, deks, h, inline)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	return obj, nil
}

func (v Vault) sealHeader(rnd io.Reader, kek []byte, epoch uint32, name string, file ID, deks []WrappedDEK, h *Header, inline []byte) ([]byte, error) {
	if err := v.Suite.check(); err != nil {
		return nil, err
	}
	n, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	if n.Kind != KindHeader || n.ID != file {
		return nil, errors.New("not the name of a header of this file")
	}
	body, err := encodeHeader(h)
	if err != nil {
		return nil, err
	}
	if len(body) > MaxBody {
		return nil, errors.New("header too long")
	}
	if len(inline) != h.inlineSize() {
		return nil, errors.New("inline records do not have the lengths that the header says")
	}
	prefix, err := v.headerPrefix(epoch, file, deks, paddedLen(len(body)))
	if err != nil {
		return nil, err
	}
	s, err := v.sealer(kek, "header", epoch, name)
	if err != nil {
		return nil, err
	}
	obj := make([]byte, 0, len(prefix)+RecordOverhead+paddedLen(len(body))+len(inline))
	obj, err = s.sealPadded(append(obj, prefix...), rnd, body, Context("header", prefix, []byte(name)))
	if err != nil {
		return nil, err
	}
	return append(obj, inline...), nil
}

func (v Vault) headerPrefix(epoch uint32, file ID, deks []WrappedDEK, padded int) ([]byte, error) {
	if len(deks) > MaxDEKs {
		return nil, errors.New("too many data keys")
	}
	p := v.objectPrefix(KindHeader, epoch, padded)
	copy(p[40:], file[:])
	binary.BigEndian.PutUint16(p[56:], uint16(len(deks)))
	last := uint32(0)
	for i := range deks {
		w := &deks[i]
		if w.Number <= last || len(w.Wrap) != WrapSize {
			return nil, errors.New("data keys not in order or of a wrong length")
		}
		last = w.Number
		p = binary.BigEndian.AppendUint32(p, w.Number)
		p = binary.BigEndian.AppendUint32(p, w.Born)
		p = binary.BigEndian.AppendUint32(p, w.Epoch)
		p = append(append(p, w.Commit[:]...), w.Wrap...)
	}
	return p, nil
}

// OpenHeader opens what SealHeader made. name and file are those under which it was asked for. inline is part of obj.
func (v Vault) OpenHeader(keks KEKs, name string, file ID, obj []byte) (deks []WrappedDEK, h *Header, inline []byte, err error) {
	deks, h, inline, err = v.openHeader(keks, name, file, obj)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open %s: %w", name, err)
	}
	return deks, h, inline, nil
}

func (v Vault) openHeader(keks KEKs, name string, file ID, obj []byte) (deks []WrappedDEK, h *Header, inline []byte, err error) {
	if err := v.Suite.check(); err != nil {
		return nil, nil, nil, err
	}
	epoch, padded, err := v.checkObjectPrefix(obj, KindHeader)
	if err != nil {
		return nil, nil, nil, err
	}
	if ID(obj[40:56]) != file {
		return nil, nil, nil, damaged("other file")
	}
	if !allZero(obj[58:objectPrefixSize]) {
		return nil, nil, nil, damaged("reserved bytes")
	}
	count := int(binary.BigEndian.Uint16(obj[56:]))
	start := objectPrefixSize + count*wrappedSize
	end := start + RecordOverhead + padded
	if count > MaxDEKs || end > len(obj) {
		return nil, nil, nil, damaged("length")
	}
	kek, err := findKEK(keks, epoch)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := v.sealer(kek, "header", epoch, name)
	if err != nil {
		return nil, nil, nil, err
	}
	body, err := s.openPadded(obj[start:end], Context("header", obj[:start], []byte(name)))
	if err != nil {
		return nil, nil, nil, err
	}
	if deks, err = parseWrapped(obj[objectPrefixSize:start]); err != nil {
		return nil, nil, nil, err
	}
	if h, err = decodeHeader(body); err != nil {
		return nil, nil, nil, err
	}
	if inline = obj[end:]; len(inline) != h.inlineSize() {
		return nil, nil, nil, damaged("length of the inline blocks")
	}
	return deks, h, inline, nil
}

// parseWrapped returns the wrapped data keys that p consists of.
func parseWrapped(p []byte) ([]WrappedDEK, error) {
	deks := make([]WrappedDEK, 0, len(p)/wrappedSize)
	wraps := append([]byte{}, p...) // one copy for all, so that the object can be let go
	last := uint32(0)
	for ; len(p) > 0; p, wraps = p[wrappedSize:], wraps[wrappedSize:] {
		w := WrappedDEK{
			Number: binary.BigEndian.Uint32(p),
			Born:   binary.BigEndian.Uint32(p[4:]),
			Epoch:  binary.BigEndian.Uint32(p[8:]),
			Commit: [32]byte(p[12:44]),
			Wrap:   wraps[44:wrappedSize:wrappedSize],
		}
		if w.Number <= last {
			return nil, damaged("data keys not in order")
		}
		last = w.Number
		deks = append(deks, w)
	}
	return deks, nil
}

// InlineRecords calls fn with each sealed record of inline, which has the length that OpenHeader has checked.
func (h *Header) InlineRecords(inline []byte, fn func(index uint32, record []byte) error) error {
	for i, n := range h.InlineLen {
		size := RecordOverhead + int(n)
		if size > len(inline) {
			return damaged("length of the inline blocks")
		}
		if err := fn(uint32(i), inline[:size:size]); err != nil {
			return err
		}
		inline = inline[size:]
	}
	return nil
}
