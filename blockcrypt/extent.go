package blockcrypt

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"sync"
)

// Sizes in an extent, in bytes.
const (
	ExtentPrefixSize = 64
	ExtentRecordSize = RecordOverhead + BlockSize // one slot
)

// RecordOverhead is by how many bytes a sealed record is longer than its plaintext.
const RecordOverhead = nonceSize + tagSize

// NonceSize is the length of the nonce that a caller of [BlockCipher.Seal] brings, in bytes.
const NonceSize = nonceSize

// MaxExtentSlots is the largest number of blocks in one extent.
const MaxExtentSlots = 1 << 20

// ExtentPrefix returns the clear prefix of an extent with that generation, sealed under the data key of that number
// and commitment.
func ExtentPrefix(gen [16]byte, dek uint32, commit [32]byte) (p [ExtentPrefixSize]byte) {
	putMagic(p[:], KindExtent, 0)
	binary.BigEndian.PutUint32(p[12:], dek)
	copy(p[16:], gen[:])
	copy(p[32:], commit[:])
	return p
}

// CheckExtentPrefix checks that p, the first ExtentPrefixSize bytes of an extent, is what ExtentPrefix returns.
func CheckExtentPrefix(p []byte, gen [16]byte, dek uint32, commit [32]byte) error {
	if err := checkMagic(p, KindExtent, ExtentPrefixSize); err != nil {
		return err
	}
	want := ExtentPrefix(gen, dek, commit)
	if subtle.ConstantTimeCompare(p[:ExtentPrefixSize], want[:]) != 1 {
		return damaged("extent's prefix")
	}
	return nil
}

// BlockCipher seals and opens the blocks of one extent, or the inline blocks of one header. It is safe for concurrent
// use and allocates nothing per block.
type BlockCipher struct {
	s      sealer
	inline bool
	aad    [extentAADSize]byte // template: the numbers are filled in for each block
}

// Where the numbers stand in the AAD of a block, after two-byte lengths: see Context.
const (
	offSlot       = 2 + len("envfs extent") + 2 + 16 + 2 + 16 + 2
	offBlock      = offSlot + 4 + 2
	offExtentLen  = offBlock + 8 + 2
	extentAADSize = offExtentLen + 4
	offInlineLen  = offSlot + 4 + 2
	inlineAADSize = offInlineLen + 4
)

// NewExtentCipher returns the cipher of the file's extent of that generation.
func (v Vault) NewExtentCipher(dek *[32]byte, file ID, gen [16]byte) (*BlockCipher, error) {
	return v.newBlockCipher(dek, file, gen, false)
}

// NewInlineCipher returns the cipher of the file's inline blocks of that generation.
func (v Vault) NewInlineCipher(dek *[32]byte, file ID, gen [16]byte) (*BlockCipher, error) {
	return v.newBlockCipher(dek, file, gen, true)
}

func (v Vault) newBlockCipher(dek *[32]byte, file ID, gen [16]byte, inline bool) (*BlockCipher, error) {
	if err := v.Suite.check(); err != nil {
		return nil, fmt.Errorf("make block cipher of file %s: %w", file, err)
	}
	word, aad := "extent", Context("extent", file[:], gen[:], U32(0), U64(0), U32(0))
	if inline {
		word, aad = "inline", Context("inline", file[:], gen[:], U32(0), U32(0))
	}
	s, err := newSealer(Derive(dek[:], nil, KeySize, word, []byte{byte(v.Suite)}, file[:], gen[:]))
	if err != nil {
		return nil, fmt.Errorf("make block cipher of file %s: %w", file, err)
	}
	c := &BlockCipher{s: s, inline: inline}
	copy(c.aad[:], aad)
	return c, nil
}

// aadPool holds the buffers in which AADs are put together: on the stack they would escape through cipher.AEAD.
var aadPool = sync.Pool{New: func() any { return new([extentAADSize]byte) }}

func (c *BlockCipher) fillAAD(buf *[extentAADSize]byte, slot uint32, block uint64, length int) []byte {
	*buf = c.aad
	binary.BigEndian.PutUint32(buf[offSlot:], slot)
	if c.inline {
		binary.BigEndian.PutUint32(buf[offInlineLen:], uint32(length))
		return buf[:inlineAADSize]
	}
	binary.BigEndian.PutUint64(buf[offBlock:], block)
	binary.BigEndian.PutUint32(buf[offExtentLen:], uint32(length))
	return buf[:]
}

// fits reports whether a plaintext has a length that blocks here have: extents hold whole blocks.
func (c *BlockCipher) fits(length int) bool {
	return length == BlockSize || c.inline && length > 0 && length < BlockSize
}

// Seal appends nonce || ciphertext || tag of plain to dst. nonce is NonceSize fresh random bytes; slot is the block's
// place in the extent (or its inline index), which under one generation is sealed once only; block is its number in
// the file, which inline blocks do not use. Blocks of an extent are BlockSize long, inline blocks 1 to BlockSize; Seal
// panics if nonce or plain has another length, as that is no input but the caller's mistake.
func (c *BlockCipher) Seal(dst, nonce, plain []byte, slot uint32, block uint64) []byte {
	if !c.fits(len(plain)) || len(nonce) != nonceSize {
		panic("blockcrypt: block or nonce of a wrong length")
	}
	c.s.guard.check(nonce)
	buf := aadPool.Get().(*[extentAADSize]byte)
	dst = append(dst, nonce...)
	dst = c.s.aead.Seal(dst, nonce, plain, c.fillAAD(buf, slot, block, len(plain)))
	aadPool.Put(buf)
	return dst
}

// Open appends the plaintext of the record to dst, which may be record[12:12]. If it fails, the bytes of dst's spare
// room are undefined.
func (c *BlockCipher) Open(dst, record []byte, slot uint32, block uint64) ([]byte, error) {
	length := len(record) - RecordOverhead
	if !c.fits(length) {
		return dst, damaged("block of a wrong length")
	}
	buf := aadPool.Get().(*[extentAADSize]byte)
	plain, err := c.s.open(dst, record, c.fillAAD(buf, slot, block, length))
	aadPool.Put(buf)
	return plain, err
}
