package blockcrypt

// The small structures that occur in several bodies.

func appendTime(b []byte, t Time) []byte {
	return appendUint(appendInt(appendArray(b, 2), t.Sec), uint64(t.Nsec))
}

func (d *decoder) time() (t Time) {
	d.tuple(2)
	t.Sec = d.int()
	t.Nsec = uint32(d.uint(999_999_999))
	return t
}

// appendRef appends null for the zero Ref, else [birth, r, hash].
func appendRef(b []byte, r *Ref) []byte {
	if r.IsZero() {
		return appendNull(b)
	}
	b = appendUint(appendArray(b, 3), r.Version.Birth)
	return appendBytes(appendBytes(b, r.Version.R[:]), r.Hash[:])
}

func (d *decoder) ref() (r Ref) {
	if d.null() {
		return r
	}
	d.tuple(3)
	r.Version.Birth = d.uint64()
	d.fixed(r.Version.R[:])
	d.fixed(r.Hash[:])
	if r.IsZero() {
		d.fail("zero reference")
	}
	return r
}

// appendPageRef appends null for the zero PageRef, else [birth, r, extra, hash].
func appendPageRef(b []byte, r *PageRef) []byte {
	if r.IsZero() {
		return appendNull(b)
	}
	b = appendUint(appendArray(b, 4), r.Ver.Birth)
	b = appendBytes(appendBytes(b, r.Ver.R[:]), r.Extra[:])
	return appendBytes(b, r.Hash[:])
}

func (d *decoder) pageRef() (r PageRef) {
	if d.null() {
		return r
	}
	d.tuple(4)
	r.Ver.Birth = d.uint64()
	d.fixed(r.Ver.R[:])
	d.fixed(r.Extra[:])
	d.fixed(r.Hash[:])
	if r.IsZero() {
		d.fail("zero reference")
	}
	return r
}

// maxName bounds the full names of objects.
const maxName = 255

// appendObjRef appends null for the zero ObjRef, else [name, hash].
func appendObjRef(b []byte, r *ObjRef) []byte {
	if r.IsZero() {
		return appendNull(b)
	}
	return appendBytes(appendBytes(appendArray(b, 2), r.Name), r.Hash[:])
}

func (d *decoder) objRef(kind Kind) (r ObjRef) {
	if d.null() {
		return r
	}
	d.tuple(2)
	r.Name = d.objName(kind)
	d.fixed(r.Hash[:])
	return r
}

// objName takes the full name of an object of that kind (KindInvalid: of any kind).
func (d *decoder) objName(kind Kind) string {
	s := string(d.bytes(1, maxName))
	if d.err != nil {
		return ""
	}
	if err := checkName(s, kind); err != nil {
		d.fail(err.Error())
		return ""
	}
	return s
}
