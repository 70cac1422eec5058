package blockcrypt

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// KeySize is the size in bytes of every key: W, root key, KEK, DEK and what is derived from them.
const KeySize = 32

// Derive returns n bytes of HKDF-SHA-256 (RFC 5869) of secret with the salt (may be nil) and an info that binds the
// label "envfs "+word and all inputs, each prefixed with its length as a big-endian u16, so that no two different
// lists of inputs give the same info. It panics only on inputs of more than 65,535 bytes or n above 255*32, which no
// caller has.
func Derive(secret, salt []byte, n int, word string, inputs ...[]byte) []byte {
	info := Context(word, inputs...)
	key, err := hkdf.Key(sha256.New, secret, salt, string(info), n)
	if err != nil {
		panic("blockcrypt: derive " + word + ": " + err.Error())
	}
	return key
}

// Context returns the label "envfs "+word and the inputs, each prefixed with its length as a big-endian u16: the form
// of every HKDF info and of every AAD.
func Context(word string, inputs ...[]byte) []byte {
	n := 2 + len("envfs ") + len(word)
	for _, in := range inputs {
		n += 2 + len(in)
	}
	b := make([]byte, 0, n)
	b = appendField(b, []byte("envfs "+word))
	for _, in := range inputs {
		b = appendField(b, in)
	}
	return b
}

func appendField(b, field []byte) []byte {
	if len(field) > 1<<16-1 {
		panic("blockcrypt: derivation input too long")
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
	return append(b, field...)
}

// U32 is the big-endian form in which numbers enter derivations and AADs.
func U32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// U64 is the big-endian form in which numbers enter derivations and AADs.
func U64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
