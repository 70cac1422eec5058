package blockcrypt

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of what an entry holds, in bytes.
const (
	MaxFileName  = 255
	MaxLink      = 4095
	MaxXattrName = 255
)

// maxXattrCount bounds the list of extended attributes; each takes at least one byte of MaxXattrs.
const maxXattrCount = 4096

// Check reports what of e cannot be stored.
func (e *Entry) Check() error {
	switch {
	case len(e.Name) == 0 || len(e.Name) > MaxFileName:
		return fmt.Errorf("name of %d bytes", len(e.Name))
	case strings.IndexByte(e.Name, 0) >= 0 || strings.IndexByte(e.Name, '/') >= 0 || e.Name == "." || e.Name == "..":
		return errors.New("name that no file can have")
	}
	switch e.Type {
	case TypeLinkRef:
		if e.Target != TypeRegular && e.Target != TypeSymlink {
			return fmt.Errorf("link to a file of type %d", e.Target)
		}
		return nil
	case TypeRegular, TypeDirectory:
	case TypeSymlink:
		if len(e.Link) == 0 || len(e.Link) > MaxLink || strings.IndexByte(e.Link, 0) >= 0 {
			return errors.New("link target that no link can have")
		}
	default:
		return fmt.Errorf("file type %d", e.Type)
	}
	if err := e.Attr.check(); err != nil {
		return err
	}
	if e.Apart > XattrAccessACL|XattrDefaultACL|XattrCapability|XattrOther {
		return fmt.Errorf("extended attribute flags %#x", uint8(e.Apart))
	}
	return checkXattrs(e.Xattrs, MaxXattrs)
}

func (a *Attr) check() error {
	if a.Mode > 0o7777 {
		return fmt.Errorf("mode %#o", a.Mode)
	}
	for _, t := range [...]Time{a.Atime, a.Mtime, a.Ctime, a.Btime} {
		if t.Nsec > 999_999_999 {
			return fmt.Errorf("%d nanoseconds", t.Nsec)
		}
	}
	return nil
}

// xattrsSize returns the total of names and values in bytes.
func xattrsSize(xs []Xattr) (n int) {
	for i := range xs {
		n += len(xs[i].Name) + len(xs[i].Value)
	}
	return n
}

func checkXattrs(xs []Xattr, limit int) error {
	if len(xs) > maxXattrCount || xattrsSize(xs) > limit {
		return errors.New("too many extended attributes")
	}
	for i := range xs {
		name := xs[i].Name
		if len(name) == 0 || len(name) > MaxXattrName || strings.IndexByte(name, 0) >= 0 {
			return errors.New("extended attribute's name")
		}
		if i > 0 && xs[i-1].Name >= name {
			return errors.New("extended attributes not in order")
		}
	}
	return nil
}

// EncodeEntry returns the stored form of e.
func EncodeEntry(e *Entry) ([]byte, error) { return AppendEntry(make([]byte, 0, 192), e) }

// AppendEntry appends the stored form of e to dst. Fields that do not belong to e.Type are not stored.
func AppendEntry(dst []byte, e *Entry) ([]byte, error) {
	if err := e.Check(); err != nil {
		return dst, fmt.Errorf("encode entry: %w", err)
	}
	return appendEntry(dst, e), nil
}

// entryItems is the length of the array that holds an entry.
func (t FileType) entryItems() int {
	switch t {
	case TypeLinkRef:
		return 4
	case TypeSymlink:
		return 7
	case TypeRegular:
		return 8
	}
	return 10
}

// appendEntry appends [type, name, id, ...]; Check has passed.
func appendEntry(b []byte, e *Entry) []byte {
	b = appendUint(appendArray(b, e.Type.entryItems()), uint64(e.Type))
	b = appendBytes(appendBytes(b, e.Name), e.ID[:])
	if e.Type == TypeLinkRef {
		return appendUint(b, uint64(e.Target))
	}
	b = appendAttr(b, &e.Attr)
	b = appendXattrs(b, e.Xattrs)
	b = appendUint(b, uint64(e.Apart))
	switch e.Type {
	case TypeRegular:
		return appendUint(appendRef(b, &e.Head), uint64(e.Extents))
	case TypeSymlink:
		return appendBytes(b, e.Link)
	}
	b = appendBytes(appendRef(b, &e.Head), e.Salt[:])
	return appendUint(appendUint(b, uint64(e.Names)), uint64(e.Subdirs))
}

func appendAttr(b []byte, a *Attr) []byte {
	b = appendUint(appendArray(b, 9), uint64(a.Mode))
	b = appendUint(appendUint(b, uint64(a.UID)), uint64(a.GID))
	b = appendUint(appendUint(b, uint64(a.Nlink)), a.Size)
	b = appendTime(appendTime(b, a.Atime), a.Mtime)
	return appendTime(appendTime(b, a.Ctime), a.Btime)
}

func appendXattrs(b []byte, xs []Xattr) []byte {
	b = appendArray(b, len(xs))
	for i := range xs {
		b = appendBytes(appendBytes(appendArray(b, 2), xs[i].Name), xs[i].Value)
	}
	return b
}

// DecodeEntry is the inverse of [EncodeEntry]; it accepts nothing else. The result shares no memory with b.
func DecodeEntry(b []byte) (Entry, error) {
	d := decoder{b: b}
	var e Entry
	d.entry(&e, "")
	if err := d.end(); err != nil {
		return Entry{}, fmt.Errorf("decode entry: %w", err)
	}
	return e, nil
}

// entryName takes the beginning of an entry: its type and name. The name is part of the input.
func (d *decoder) entryName() (FileType, []byte) {
	n := d.array(10)
	t := FileType(d.uint8())
	name := d.bytes(1, MaxFileName)
	if d.err == nil && (t < TypeRegular || t > TypeLinkRef || n != t.entryItems()) {
		d.fail("entry of an unknown form")
	}
	return t, name
}

// entry takes an entry into e, which must be zero. known is the entry's name if the caller has it: it saves a copy.
func (d *decoder) entry(e *Entry, known string) {
	var name []byte
	e.Type, name = d.entryName()
	if e.Name = known; string(name) != known {
		e.Name = string(name)
	}
	d.fixed(e.ID[:])
	if e.Type == TypeLinkRef {
		e.Target = FileType(d.uint8())
	} else {
		d.attr(&e.Attr)
		e.Xattrs = d.xattrs(MaxXattrs)
		e.Apart = XattrFlags(d.uint8())
	}
	switch e.Type {
	case TypeRegular:
		e.Head = d.ref()
		e.Extents = d.uint32()
	case TypeSymlink:
		e.Link = string(d.bytes(1, MaxLink))
	case TypeDirectory:
		e.Head = d.ref()
		d.fixed(e.Salt[:])
		e.Names = d.uint32()
		e.Subdirs = d.uint32()
	}
	if d.err == nil {
		if err := e.Check(); err != nil {
			d.fail(err.Error())
		}
	}
}

func (d *decoder) attr(a *Attr) {
	d.tuple(9)
	a.Mode = d.uint32()
	a.UID = d.uint32()
	a.GID = d.uint32()
	a.Nlink = d.uint32()
	a.Size = d.uint64()
	a.Atime = d.time()
	a.Mtime = d.time()
	a.Ctime = d.time()
	a.Btime = d.time()
}

func (d *decoder) xattrs(limit int) []Xattr {
	n := d.array(maxXattrCount)
	if n == 0 {
		return nil
	}
	xs := make([]Xattr, 0, min(n, len(d.b)/3+1))
	for ; n > 0 && d.err == nil; n-- {
		d.tuple(2)
		name := d.bytes(1, MaxXattrName)
		value := d.bytes(0, limit)
		xs = append(xs, Xattr{Name: string(name), Value: append([]byte{}, value...)})
	}
	if d.err == nil {
		if err := checkXattrs(xs, limit); err != nil {
			d.fail(err.Error())
		}
	}
	return xs
}
