package blockcrypt

import (
	"encoding/binary"
	"fmt"
)

// What is sealed is CBOR (RFC 8949) in its core deterministic form, restricted to integers, byte strings, arrays, maps
// with ascending unsigned keys, booleans and null. Text is stored as byte strings, since names are arbitrary bytes.
// The codec is written by hand: there is one spelling of each value, the decoder accepts no other, and it never
// allocates more than a small multiple of its input.

// The major types of CBOR that are used.
const (
	majorUint  = 0
	majorNeg   = 1
	majorBytes = 2
	majorText  = 3 // in unknown fields only
	majorArray = 4
	majorMap   = 5
	majorTag   = 6 // in unknown fields only

	cborFalse = 0xf4
	cborTrue  = 0xf5
	cborNull  = 0xf6
)

func appendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendUint(b []byte, n uint64) []byte { return appendHead(b, majorUint, n) }

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, majorNeg, uint64(-1-n))
	}
	return appendHead(b, majorUint, uint64(n))
}

func appendBytes[T []byte | string](b []byte, p T) []byte {
	return append(appendHead(b, majorBytes, uint64(len(p))), p...)
}

func appendArray(b []byte, n int) []byte { return appendHead(b, majorArray, uint64(n)) }

func appendMap(b []byte, n int) []byte { return appendHead(b, majorMap, uint64(n)) }

func appendNull(b []byte) []byte { return append(b, cborNull) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, cborTrue)
	}
	return append(b, cborFalse)
}

// decoder takes items off the front of b. The first failure sticks: later calls return zeros, so that callers look at
// err once, at the end. They need not look earlier to stay safe, since counts never exceed what is left of b.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(why string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", why, ErrDamaged)
	}
	d.b = nil
}

// end returns the first failure, or an error if anything is left.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) != 0 {
		d.fail("bytes after the end")
	}
	return d.err
}

// head takes the head of an item of the wanted major type; only the shortest spelling is accepted.
func (d *decoder) head(major byte) uint64 {
	if len(d.b) == 0 || d.b[0]>>5 != major {
		d.fail("wrong item")
		return 0
	}
	info := d.b[0] & 31
	if info < 24 {
		d.b = d.b[1:]
		return uint64(info)
	}
	return d.longHead(info)
}

func (d *decoder) longHead(info byte) (n uint64) {
	if info > 27 {
		d.fail("reserved or indefinite length")
		return 0
	}
	size := 1 << (info - 24)
	if len(d.b) < 1+size {
		d.fail("cut short")
		return 0
	}
	for _, c := range d.b[1 : 1+size] {
		n = n<<8 | uint64(c)
	}
	least := uint64(24)
	if size > 1 {
		least = 1 << (4 * size) // what the next shorter form cannot hold
	}
	if n < least {
		d.fail("number not in its shortest form")
		return 0
	}
	d.b = d.b[1+size:]
	return n
}

// uint takes an unsigned integer of at most limit.
func (d *decoder) uint(limit uint64) uint64 {
	n := d.head(majorUint)
	if n > limit {
		d.fail("number out of range")
		return 0
	}
	return n
}

func (d *decoder) uint8() uint8   { return uint8(d.uint(1<<8 - 1)) }
func (d *decoder) uint32() uint32 { return uint32(d.uint(1<<32 - 1)) }
func (d *decoder) uint64() uint64 { return d.head(majorUint) }

// int takes a signed integer of 64 bits.
func (d *decoder) int() int64 {
	negative := len(d.b) > 0 && d.b[0]>>5 == majorNeg
	major := byte(majorUint)
	if negative {
		major = majorNeg
	}
	n := d.head(major)
	if n > 1<<63-1 {
		d.fail("number out of range")
		return 0
	}
	if negative {
		return -1 - int64(n)
	}
	return int64(n)
}

// bytes takes a byte string of least to most bytes; the result is part of the input.
func (d *decoder) bytes(least, most int) []byte {
	n := d.head(majorBytes)
	if n > uint64(len(d.b)) {
		d.fail("cut short")
		return nil
	}
	if n < uint64(least) || n > uint64(most) {
		d.fail("byte string of a wrong length")
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

// fixed takes a byte string of exactly len(dst) bytes.
func (d *decoder) fixed(dst []byte) { copy(dst, d.bytes(len(dst), len(dst))) }

// array takes the head of an array of at most limit items.
func (d *decoder) array(limit int) int {
	n := d.head(majorArray)
	if n > uint64(limit) || n > uint64(len(d.b)) {
		d.fail("array too long")
		return 0
	}
	return int(n)
}

// tuple takes the head of an array of exactly n items.
func (d *decoder) tuple(n int) {
	if d.head(majorArray) != uint64(n) {
		d.fail("array of a wrong length")
	}
}

// null takes null if it is next, and says whether it was.
func (d *decoder) null() bool {
	if len(d.b) > 0 && d.b[0] == cborNull {
		d.b = d.b[1:]
		return true
	}
	return false
}

func (d *decoder) bool() bool {
	if len(d.b) > 0 && (d.b[0] == cborFalse || d.b[0] == cborTrue) {
		v := d.b[0] == cborTrue
		d.b = d.b[1:]
		return v
	}
	d.fail("wrong item")
	return false
}

// maxDepth bounds the nesting of unknown fields.
const maxDepth = 8

// skip takes one item of any kind and returns its bytes, which are part of the input.
func (d *decoder) skip() []byte {
	start := d.b
	d.skipItem(maxDepth)
	if d.err != nil {
		return nil
	}
	n := len(start) - len(d.b)
	return start[:n:n]
}

func (d *decoder) skipItem(depth int) {
	if len(d.b) == 0 || depth == 0 {
		d.fail("cut short or nested too deeply")
		return
	}
	major := d.b[0] >> 5
	if major == 7 {
		d.skipSimple()
		return
	}
	n := d.head(major)
	items := uint64(0)
	switch major {
	case majorBytes, majorText:
		if n > uint64(len(d.b)) {
			d.fail("cut short")
			return
		}
		d.b = d.b[n:]
	case majorTag:
		items = 1
	case majorArray, majorMap:
		if items = n; n > uint64(len(d.b)) {
			d.fail("array too long")
			return
		}
		if major == majorMap {
			items *= 2
		}
	}
	for ; items > 0 && d.err == nil; items-- {
		d.skipItem(depth - 1)
	}
}

// skipSimple takes a simple value or a floating-point number.
func (d *decoder) skipSimple() {
	size := 1
	switch info := d.b[0] & 31; {
	case info < 24:
	case info >= 25 && info <= 27:
		size += 1 << (info - 24)
	default:
		d.fail("unknown simple value")
		return
	}
	if len(d.b) < size {
		d.fail("cut short")
		return
	}
	d.b = d.b[size:]
}
