package blockcrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
)

// Sizes of the AEAD of suite 1, in bytes.
const (
	nonceSize = 12
	tagSize   = 16
)

// objectPrefixSize is the length of the clear prefix of sealed objects in bytes.
const objectPrefixSize = 64

// MaxBody is the largest plaintext of a sealed object in bytes.
const MaxBody = 64 << 20

// padTo is the step to which plaintexts are padded, in bytes, so that their exact length does not show.
const padTo = 256

// Every object begins with the same nine bytes: "envfs", a letter for its kind, the format version (u16), the suite.
const (
	magic      = "envfs"
	offLetter  = 5
	offVersion = 6
	offSuite   = 8
)

// letter tells the kind of an object in its clear prefix; word does so in its derivation.
func (k Kind) letter() (letter byte, word string) {
	switch k {
	case KindRoot:
		return 'r', "root"
	case KindSegment:
		return 'j', "batch"
	case KindFold:
		return 'f', "fold"
	case KindIndex:
		return 'd', "index"
	case KindShard:
		return 's', "shard"
	case KindList:
		return 'l', "list"
	case KindHeader:
		return 'h', "header"
	case KindExtent:
		return 'x', "extent"
	case KindMapPage:
		return 'm', "map"
	}
	return 0, ""
}

// putMagic writes the first nine bytes of an object's prefix.
func putMagic(p []byte, kind Kind, s Suite) {
	copy(p, magic)
	p[offLetter], _ = kind.letter()
	binary.BigEndian.PutUint16(p[offVersion:], FormatVersion)
	p[offSuite] = byte(s)
}

// checkMagic checks that p has at least size bytes and begins as an object of that kind does; the suite is left to
// the caller.
func checkMagic(p []byte, kind Kind, size int) error {
	letter, word := kind.letter()
	if len(p) < size || string(p[:offLetter]) != magic || p[offLetter] != letter {
		return fmt.Errorf("no %s begins here: %w", word, ErrDamaged)
	}
	if v := binary.BigEndian.Uint16(p[offVersion:]); v != FormatVersion {
		return fmt.Errorf("format version %d: %w", v, ErrVersion)
	}
	return nil
}

func allZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

// damaged says what is wrong with bytes that were not sealed so.
func damaged(what string) error { return fmt.Errorf("%s: %w", what, ErrDamaged) }

// sealer is an AEAD under one key.
type sealer struct {
	aead  cipher.AEAD
	guard nonceGuard
}

// newSealer returns the AEAD under key, which was derived for it, and wipes key.
func newSealer(key []byte) (sealer, error) {
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCM(block)
	return sealer{aead, newNonceGuard(key)}, err
}

// seal appends nonce || ciphertext || tag of plain to dst, with a nonce from rnd. plain may lie in dst's spare room
// exactly where its ciphertext goes.
func (s *sealer) seal(dst []byte, rnd io.Reader, plain, aad []byte) ([]byte, error) {
	n := len(dst)
	dst = append(dst, make([]byte, nonceSize)...)
	if _, err := io.ReadFull(rnd, dst[n:]); err != nil {
		return nil, fmt.Errorf("draw a nonce: %w", err)
	}
	s.guard.check(dst[n:])
	return s.aead.Seal(dst, dst[n:n+nonceSize], plain, aad), nil
}

// open appends the plaintext of nonce || ciphertext || tag to dst.
func (s *sealer) open(dst, record, aad []byte) ([]byte, error) {
	if len(record) < nonceSize+tagSize {
		return dst, damaged("sealed record cut short")
	}
	plain, err := s.aead.Open(dst, record[:nonceSize], record[nonceSize:], aad)
	if err != nil {
		return dst, damaged("authentication tag")
	}
	return plain, nil
}

// sealer returns the AEAD of one metadata object: its key is used for this object only.
func (v Vault) sealer(kek []byte, word string, epoch uint32, name string) (sealer, error) {
	return newSealer(Derive(kek, nil, KeySize, word,
		[]byte{byte(v.Suite)}, v.ID[:], v.Domain[:], U32(epoch), []byte(name)))
}

// paddedLen returns the length of the padded plaintext of an n-byte body: its length (u32), itself, zeros.
func paddedLen(n int) int { return (4 + n + padTo - 1) / padTo * padTo }

// sealPadded appends the sealed record of the padded body to dst.
func (s *sealer) sealPadded(dst []byte, rnd io.Reader, body, aad []byte) ([]byte, error) {
	n := len(dst)
	plain := make([]byte, paddedLen(len(body)), paddedLen(len(body))+tagSize)
	binary.BigEndian.PutUint32(plain, uint32(len(body)))
	copy(plain[4:], body)
	out, err := s.seal(dst, rnd, plain, aad)
	if err != nil {
		return dst[:n], err
	}
	clear(plain)
	return out, nil
}

// openPadded returns the body of a record that sealPadded made.
func (s *sealer) openPadded(record, aad []byte) ([]byte, error) {
	plain, err := s.open(nil, record, aad)
	if err != nil {
		return nil, err
	}
	if len(plain) < 4 {
		return nil, damaged("no length")
	}
	n := binary.BigEndian.Uint32(plain)
	if n > MaxBody || paddedLen(int(n)) != len(plain) || !allZero(plain[4+n:]) {
		return nil, damaged("padding")
	}
	return plain[4 : 4+n : 4+n], nil
}

// objectPrefix is the clear prefix of indexes, shards, lists and map pages.
func (v Vault) objectPrefix(kind Kind, epoch uint32, padded int) []byte {
	p := make([]byte, objectPrefixSize)
	putMagic(p, kind, v.Suite)
	copy(p[16:], v.Domain[:])
	binary.BigEndian.PutUint32(p[32:], epoch)
	binary.BigEndian.PutUint32(p[36:], uint32(padded))
	return p
}

// checkObjectPrefix checks what prefixes of objects and headers have in common: their first 40 bytes.
func (v Vault) checkObjectPrefix(obj []byte, kind Kind) (epoch uint32, padded int, err error) {
	if err := checkMagic(obj, kind, objectPrefixSize); err != nil {
		return 0, 0, err
	}
	switch {
	case obj[offSuite] != byte(v.Suite):
		return 0, 0, damaged("other cipher suite")
	case !allZero(obj[offSuite+1 : 16]):
		return 0, 0, damaged("reserved bytes")
	case ID(obj[16:32]) != v.Domain:
		return 0, 0, damaged("other domain")
	}
	n := binary.BigEndian.Uint32(obj[36:])
	if n == 0 || n%padTo != 0 || n > uint32(paddedLen(MaxBody)) {
		return 0, 0, damaged("length of the sealed body")
	}
	return binary.BigEndian.Uint32(obj[32:]), int(n), nil
}

// SealObject seals the body of an index, shard, list or map page that will lie under name. kek is the KEK of epoch.
func (v Vault) SealObject(rnd io.Reader, kek []byte, epoch uint32, kind Kind, name string, body []byte) ([]byte, error) {
	obj, err := v.sealObject(rnd, kek, epoch, kind, name, body)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	return obj, nil
}

func (v Vault) sealObject(rnd io.Reader, kek []byte, epoch uint32, kind Kind, name string, body []byte) ([]byte, error) {
	word, err := objectWord(kind)
	if err != nil {
		return nil, err
	}
	if err := v.Suite.check(); err != nil {
		return nil, err
	}
	if err := checkName(name, kind); err != nil {
		return nil, err
	}
	if len(body) > MaxBody {
		return nil, fmt.Errorf("body of %d bytes is too long", len(body))
	}
	s, err := v.sealer(kek, word, epoch, name)
	if err != nil {
		return nil, err
	}
	padded := paddedLen(len(body))
	prefix := v.objectPrefix(kind, epoch, padded)
	obj := make([]byte, 0, objectPrefixSize+nonceSize+padded+tagSize)
	return s.sealPadded(append(obj, prefix...), rnd, body, Context(word, prefix, []byte(name)))
}

// OpenObject opens what SealObject made, and returns its body and the key epoch it was sealed under. name is the one
// under which the object was asked for.
func (v Vault) OpenObject(keks KEKs, kind Kind, name string, obj []byte) (body []byte, epoch uint32, err error) {
	body, epoch, err = v.openObject(keks, kind, name, obj)
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", name, err)
	}
	return body, epoch, nil
}

func (v Vault) openObject(keks KEKs, kind Kind, name string, obj []byte) ([]byte, uint32, error) {
	word, err := objectWord(kind)
	if err != nil {
		return nil, 0, err
	}
	if err := v.Suite.check(); err != nil {
		return nil, 0, err
	}
	epoch, padded, err := v.checkObjectPrefix(obj, kind)
	if err != nil {
		return nil, 0, err
	}
	if !allZero(obj[40:objectPrefixSize]) {
		return nil, 0, damaged("reserved bytes")
	}
	if len(obj) != objectPrefixSize+nonceSize+padded+tagSize {
		return nil, 0, damaged("length")
	}
	kek, err := findKEK(keks, epoch)
	if err != nil {
		return nil, 0, err
	}
	s, err := v.sealer(kek, word, epoch, name)
	if err != nil {
		return nil, 0, err
	}
	body, err := s.openPadded(obj[objectPrefixSize:], Context(word, obj[:objectPrefixSize], []byte(name)))
	return body, epoch, err
}

// objectWord returns the word of the kinds that SealObject seals.
func objectWord(kind Kind) (string, error) {
	switch kind {
	case KindIndex, KindShard, KindList, KindMapPage:
		_, word := kind.letter()
		return word, nil
	}
	return "", fmt.Errorf("objects of kind %d are not sealed so", kind)
}

func findKEK(keks KEKs, epoch uint32) ([]byte, error) {
	kek, err := keks.KEK(epoch)
	if err != nil {
		return nil, fmt.Errorf("key epoch %d: %w", epoch, err)
	}
	return kek, nil
}
