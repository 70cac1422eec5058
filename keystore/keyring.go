package keystore

import (
	"encoding/binary"
	"errors"

	"envfs/blockcrypt"
)

// A sealed keyring is, big-endian: u32 count, count of {u32 epoch, 32 bytes KEK} with rising epochs, u32 count, count of
// 32 bytes of earlier root keys.
const (
	kekSize    = 4 + blockcrypt.KeySize
	maxKeyring = 4 + MaxEpochs*kekSize + 4 + MaxSlots*blockcrypt.KeySize
)

// keyring is a decoded keyring; its keys are slices of one buffer or of an arena.
type keyring struct {
	epochs  []uint32 // rising
	keks    [][]byte // of epochs
	earlier [][]byte // root keys
}

// encode returns the bytes of r, which the caller seals and wipes.
func (r *keyring) encode() []byte {
	b := make([]byte, 0, 4+len(r.epochs)*kekSize+4+len(r.earlier)*blockcrypt.KeySize)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.epochs)))
	for i, e := range r.epochs {
		b = binary.BigEndian.AppendUint32(b, e)
		b = append(b, r.keks[i]...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.earlier)))
	for _, k := range r.earlier {
		b = append(b, k...)
	}
	return b
}

var errKeyring = errors.New("keyring is not valid")

// decodeKeyring decodes b; the keys lie in b.
func decodeKeyring(b []byte) (r keyring, err error) {
	count := func(most, size int) (int, bool) {
		if len(b) < 4 {
			return 0, false
		}
		n := binary.BigEndian.Uint32(b)
		b = b[4:]
		return int(n), n <= uint32(most) && int(n)*size <= len(b)
	}
	n, ok := count(MaxEpochs, kekSize)
	if !ok || n == 0 {
		return r, errKeyring
	}
	for i := range n {
		e := binary.BigEndian.Uint32(b)
		if i > 0 && e <= r.epochs[i-1] {
			return r, errKeyring
		}
		r.epochs = append(r.epochs, e)
		r.keks = append(r.keks, b[4:kekSize:kekSize])
		b = b[kekSize:]
	}
	n, ok = count(MaxSlots, blockcrypt.KeySize)
	if !ok || len(b) != n*blockcrypt.KeySize {
		return r, errKeyring
	}
	for range n {
		r.earlier = append(r.earlier, b[:blockcrypt.KeySize:blockcrypt.KeySize])
		b = b[blockcrypt.KeySize:]
	}
	return r, nil
}
