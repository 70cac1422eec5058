package blockcrypt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// MaxInlineBlocks is the largest number of blocks in a header.
const MaxInlineBlocks = 64

// The keys of the map that is a header's body. A field of zero value is left out.
const (
	headerEntry     = 1
	headerParent    = 2
	headerXattrs    = 3
	headerRuns      = 4
	headerMapTop    = 5
	headerMapHeight = 6
	headerExtents   = 7
	headerExtTop    = 8
	headerExtHeight = 9
	headerNextExt   = 10
	headerInlineGen = 11
	headerInlineDEK = 12
	headerInlineLen = 13
	headerKnown     = headerInlineLen // what is above goes to Header.Rest
)

// maxHeaderFields bounds the map.
const maxHeaderFields = 64

// check reports what of h cannot be stored, as far as encoding it does not find out.
func (h *Header) check() error {
	if err := h.Entry.Check(); err != nil {
		return err
	}
	if err := checkXattrs(h.Xattrs, MaxXattrs); err != nil {
		return err
	}
	switch {
	case len(h.Runs) > 0 && !h.MapTop.IsZero() || len(h.Extents) > 0 && !h.ExtTop.IsZero():
		return errors.New("map both in the header and in pages")
	case h.MapHeight > MaxMapHeight || h.ExtHeight > MaxMapHeight:
		return errors.New("map too high")
	case len(h.InlineLen) > MaxInlineBlocks:
		return errors.New("too many inline blocks")
	}
	for _, n := range h.InlineLen {
		if n == 0 || n > BlockSize {
			return fmt.Errorf("inline block of %d bytes", n)
		}
	}
	for i := range h.Runs {
		r := &h.Runs[i]
		if r.Kind == RunHeader && uint64(r.Slot)+r.Count > uint64(len(h.InlineLen)) {
			return errors.New("map names an inline block that is not there")
		}
	}
	return nil
}

// inlineSize returns the total length of the sealed inline records in bytes.
func (h *Header) inlineSize() (n int) {
	for _, l := range h.InlineLen {
		n += RecordOverhead + int(l)
	}
	return n
}

// encodeHeader returns the body of a header object.
func encodeHeader(h *Header) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	fields := 0
	var b []byte
	var err error
	field := func(key uint64, present bool, value func([]byte) []byte) {
		if present && err == nil {
			fields++
			b = value(appendUint(b, key))
		}
	}
	number := func(key, n uint64) {
		field(key, n != 0, func(b []byte) []byte { return appendUint(b, n) })
	}
	page := func(key uint64, r *PageRef) {
		field(key, !r.IsZero(), func(b []byte) []byte { return appendPageRef(b, r) })
	}
	field(headerEntry, true, func(b []byte) []byte { return appendEntry(b, &h.Entry) })
	field(headerParent, !h.Parent.IsZero(), func(b []byte) []byte { return appendBytes(b, h.Parent[:]) })
	field(headerXattrs, len(h.Xattrs) > 0, func(b []byte) []byte { return appendXattrs(b, h.Xattrs) })
	field(headerRuns, len(h.Runs) > 0, func(b []byte) []byte {
		b, err = appendRuns(b, 0, h.Runs)
		return b
	})
	page(headerMapTop, &h.MapTop)
	number(headerMapHeight, uint64(h.MapHeight))
	field(headerExtents, len(h.Extents) > 0, func(b []byte) []byte {
		b, err = appendExtents(b, 0, h.Extents)
		return b
	})
	page(headerExtTop, &h.ExtTop)
	number(headerExtHeight, uint64(h.ExtHeight))
	number(headerNextExt, uint64(h.NextExt))
	field(headerInlineGen, h.InlineGen != [16]byte{}, func(b []byte) []byte { return appendBytes(b, h.InlineGen[:]) })
	number(headerInlineDEK, uint64(h.InlineDEK))
	field(headerInlineLen, len(h.InlineLen) > 0, func(b []byte) []byte {
		b = appendArray(b, len(h.InlineLen))
		for _, n := range h.InlineLen {
			b = appendUint(b, uint64(n))
		}
		return b
	})
	for _, key := range slices.Sorted(maps.Keys(h.Rest)) {
		d := decoder{b: h.Rest[key]}
		d.skip()
		if key <= headerKnown || d.end() != nil {
			return nil, errors.New("unknown field that is none")
		}
		field(key, true, func(b []byte) []byte { return append(b, h.Rest[key]...) })
	}
	if err == nil && fields > maxHeaderFields {
		err = errors.New("too many fields")
	}
	return append(appendMap(make([]byte, 0, len(b)+3), fields), b...), err
}

// decodeHeader is the inverse of encodeHeader.
func decodeHeader(body []byte) (*Header, error) {
	d := decoder{b: body}
	h := new(Header)
	n := d.head(majorMap)
	if n > maxHeaderFields {
		d.fail("too many fields")
	}
	last := uint64(0)
	for ; n > 0 && d.err == nil; n-- {
		key := d.uint64()
		if key <= last {
			d.fail("fields not in order")
			break
		}
		last = key
		d.headerField(h, key)
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	if err := h.check(); err != nil {
		return nil, damaged(err.Error())
	}
	return h, nil
}

// headerField takes the value of one field. A zero value is refused, since its one spelling is to be left out.
func (d *decoder) headerField(h *Header, key uint64) {
	zero := false
	switch key {
	case headerEntry:
		d.entry(&h.Entry, "")
	case headerParent:
		d.fixed(h.Parent[:])
		zero = h.Parent.IsZero()
	case headerXattrs:
		h.Xattrs = d.xattrs(MaxXattrs)
		zero = len(h.Xattrs) == 0
	case headerRuns:
		h.Runs = d.runs(0)
		zero = len(h.Runs) == 0
	case headerMapTop:
		h.MapTop = d.pageRef()
		zero = h.MapTop.IsZero()
	case headerMapHeight:
		h.MapHeight = d.uint8()
		zero = h.MapHeight == 0
	case headerExtents:
		h.Extents = d.extents(0)
		zero = len(h.Extents) == 0
	case headerExtTop:
		h.ExtTop = d.pageRef()
		zero = h.ExtTop.IsZero()
	case headerExtHeight:
		h.ExtHeight = d.uint8()
		zero = h.ExtHeight == 0
	case headerNextExt:
		h.NextExt = d.uint32()
		zero = h.NextExt == 0
	case headerInlineGen:
		d.fixed(h.InlineGen[:])
		zero = h.InlineGen == [16]byte{}
	case headerInlineDEK:
		h.InlineDEK = d.uint32()
		zero = h.InlineDEK == 0
	case headerInlineLen:
		for n := d.array(MaxInlineBlocks); n > 0; n-- {
			h.InlineLen = append(h.InlineLen, d.uint32())
		}
		zero = len(h.InlineLen) == 0
	default:
		if h.Rest == nil {
			h.Rest = make(map[uint64][]byte)
		}
		h.Rest[key] = slices.Clone(d.skip())
	}
	if zero {
		d.fail("field of zero value")
	}
}
