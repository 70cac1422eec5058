package journal

import (
	"encoding/binary"
	"fmt"

	"envfs/blockcrypt"
)

// Deltas are encoded one after another: kind (1 byte), id (16), then by kind
//
//	SetEntry, Drop   length (u32), entry (blockcrypt.AppendEntry)
//	DelEntry         name
//	Where            parent (16), name
//	SetKeys          count, then number, epoch, commitment (32), wrap
//	SetRuns          count, then start, count, kind (1) and, unless it is a hole, extent (RunExtent only), slot
//	SetExtent        number, birth, r (13), extra (11), generation (16), DEK number, slots, live, CRC-32C (u32), length
//
// Numbers are unsigned varints in their shortest form unless a size is given, which is then big-endian; names and wraps
// have their length before them. There is one encoding of each delta, and the decoder accepts no other.

func appendBytes[T []byte | string](b []byte, p T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

// appendDelta appends a delta that passed check.
func appendDelta(b []byte, d *Delta) ([]byte, error) {
	b = append(b, byte(d.Kind))
	b = append(b, d.ID[:]...)
	switch d.Kind {
	case SetEntry, Drop:
		at := len(b)
		b, err := blockcrypt.AppendEntry(append(b, 0, 0, 0, 0), d.Entry)
		if err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
		return b, nil
	case DelEntry:
		b = appendBytes(b, d.Name)
	case Where:
		b = appendBytes(append(b, d.Parent[:]...), d.Name)
	case SetKeys:
		b = binary.AppendUvarint(b, uint64(len(d.Keys)))
		for i := range d.Keys {
			b = appendKey(b, &d.Keys[i])
		}
	case SetRuns:
		b = binary.AppendUvarint(b, uint64(len(d.Runs)))
		for i := range d.Runs {
			b = appendRun(b, &d.Runs[i])
		}
	case SetExtent:
		b = appendExtent(b, d.Extent)
	}
	return b, nil
}

func appendKey(b []byte, k *blockcrypt.WrappedDEK) []byte {
	b = binary.AppendUvarint(b, uint64(k.Number))
	b = binary.AppendUvarint(b, uint64(k.Born))
	b = binary.AppendUvarint(b, uint64(k.Epoch))
	return appendBytes(append(b, k.Commit[:]...), k.Wrap)
}

func appendRun(b []byte, r *blockcrypt.Run) []byte {
	b = binary.AppendUvarint(b, r.Start)
	b = binary.AppendUvarint(b, r.Count)
	b = append(b, byte(r.Kind))
	if r.Kind == blockcrypt.RunHole {
		return b
	}
	if r.Kind == blockcrypt.RunExtent {
		b = binary.AppendUvarint(b, uint64(r.Extent))
	}
	return binary.AppendUvarint(b, uint64(r.Slot))
}

func appendExtent(b []byte, x *blockcrypt.ExtentInfo) []byte {
	b = binary.AppendUvarint(b, uint64(x.Number))
	b = binary.AppendUvarint(b, x.Ver.Birth)
	b = append(b, x.Ver.R[:]...)
	b = append(b, x.Extra[:]...)
	b = append(b, x.Generation[:]...)
	b = binary.AppendUvarint(b, uint64(x.DEK))
	b = binary.AppendUvarint(b, uint64(x.Slots))
	b = binary.AppendUvarint(b, uint64(x.Live))
	b = binary.BigEndian.AppendUint32(b, x.CRC32C)
	return binary.AppendUvarint(b, x.Length)
}

// decoder takes values off the front of b. The first failure sticks and empties b, so that callers need to look at err
// only once, at the end; no count exceeds what is left of b.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(why string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", why, blockcrypt.ErrDamaged)
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail("cut short")
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) fixed(dst []byte) { copy(dst, d.take(len(dst))) }

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

// uvarint takes a number of at most limit.
func (d *decoder) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 || v > limit {
		d.fail("not a number that can stand here")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 { return uint32(d.uvarint(1<<32 - 1)) }

func (d *decoder) uint64() uint64 { return d.uvarint(1<<64 - 1) }

// count takes the number of items that follow, each of at least size bytes.
func (d *decoder) count(size int) int { return int(d.uvarint(uint64(len(d.b) / size))) }

func (d *decoder) bytes(limit int) []byte { return d.take(int(d.uvarint(uint64(limit)))) }

// delta takes one delta of a batch with that many contents. What it refers to is fresh memory.
func (d *decoder) delta(contents int) (x Delta) {
	x.Kind = Kind(d.byte())
	d.fixed(x.ID[:])
	switch x.Kind {
	case SetEntry, Drop:
		x.Entry = d.entry()
	case DelEntry:
		x.Name = string(d.bytes(blockcrypt.MaxFileName))
	case Where:
		d.fixed(x.Parent[:])
		x.Name = string(d.bytes(blockcrypt.MaxFileName))
	case SetKeys:
		x.Keys = d.keys()
	case SetRuns:
		x.Runs = d.runs()
	case SetExtent:
		x.Extent = d.extent()
	}
	if d.err == nil {
		if err := x.check(contents); err != nil {
			d.fail(err.Error())
		}
	}
	return x
}

func (d *decoder) entry() *blockcrypt.Entry {
	n := d.u32()
	if uint64(n) > uint64(len(d.b)) {
		d.fail("cut short")
		return nil
	}
	e, err := blockcrypt.DecodeEntry(d.take(int(n)))
	if err != nil {
		d.fail(err.Error())
		return nil
	}
	return &e
}

func (d *decoder) keys() []blockcrypt.WrappedDEK {
	n := d.count(37)
	if n == 0 {
		return nil
	}
	keys := make([]blockcrypt.WrappedDEK, n)
	for i := range keys {
		k := &keys[i]
		k.Number, k.Born, k.Epoch = d.uint32(), d.uint32(), d.uint32()
		d.fixed(k.Commit[:])
		k.Wrap = append([]byte(nil), d.bytes(maxWrap)...)
	}
	return keys
}

func (d *decoder) runs() []blockcrypt.Run {
	n := d.count(3)
	if n == 0 {
		return nil
	}
	runs := make([]blockcrypt.Run, n)
	for i := range runs {
		r := &runs[i]
		r.Start, r.Count = d.uint64(), d.uint64()
		r.Kind = blockcrypt.RunKind(d.byte())
		if r.Kind == blockcrypt.RunHole {
			continue
		}
		if r.Kind == blockcrypt.RunExtent {
			r.Extent = d.uint32()
		}
		r.Slot = d.uint32()
	}
	return runs
}

func (d *decoder) extent() *blockcrypt.ExtentInfo {
	x := new(blockcrypt.ExtentInfo)
	x.Number = d.uint32()
	x.Ver.Birth = d.uint64()
	d.fixed(x.Ver.R[:])
	d.fixed(x.Extra[:])
	d.fixed(x.Generation[:])
	x.DEK, x.Slots, x.Live = d.uint32(), d.uint32(), d.uint32()
	x.CRC32C = d.u32()
	x.Length = d.uint64()
	return x
}
