package blockcrypt

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// rootPrefixSize is the length of the fixed part of a root's clear prefix in bytes; names follow it.
const rootPrefixSize = 128

// appendRootPrefix appends the clear prefix of a root with a sealed body of that padded length.
func (v Vault) appendRootPrefix(dst []byte, p *RootPrefix, padded int) ([]byte, error) {
	if err := checkName(p.KeyFile.Name, KindKeyFile); err != nil {
		return nil, err
	}
	if err := checkName(p.Fold.Name, KindFold); err != nil {
		return nil, err
	}
	if p.FirstSegment != "" {
		if err := checkName(p.FirstSegment, KindSegment); err != nil {
			return nil, err
		}
	}
	if p.Time.Nsec > 999_999_999 {
		return nil, errors.New("time")
	}
	var b [rootPrefixSize]byte
	putMagic(b[:], KindRoot, v.Suite)
	binary.BigEndian.PutUint64(b[16:], p.Seq)
	binary.BigEndian.PutUint64(b[24:], uint64(p.Time.Sec))
	binary.BigEndian.PutUint32(b[32:], p.Time.Nsec)
	binary.BigEndian.PutUint32(b[36:], p.Epoch)
	binary.BigEndian.PutUint32(b[40:], uint32(padded))
	binary.BigEndian.PutUint16(b[44:], uint16(len(p.KeyFile.Name)))
	binary.BigEndian.PutUint16(b[46:], uint16(len(p.Fold.Name)))
	binary.BigEndian.PutUint16(b[48:], uint16(len(p.FirstSegment)))
	copy(b[50:], p.R[:])
	copy(b[64:], p.KeyFile.Hash[:])
	copy(b[96:], p.Fold.Hash[:])
	dst = append(dst, b[:]...)
	dst = append(dst, p.KeyFile.Name...)
	dst = append(dst, p.Fold.Name...)
	return append(dst, p.FirstSegment...), nil
}

// parseRootPrefix returns the prefix, its suite, its length and the padded length of the sealed body.
func parseRootPrefix(data []byte) (p RootPrefix, suite Suite, size, padded int, err error) {
	fail := func(err error) (RootPrefix, Suite, int, int, error) { return RootPrefix{}, 0, 0, 0, err }
	if err := checkMagic(data, KindRoot, rootPrefixSize); err != nil {
		return fail(err)
	}
	if !allZero(data[offSuite+1:16]) || data[63] != 0 {
		return fail(damaged("reserved bytes"))
	}
	p.Seq = binary.BigEndian.Uint64(data[16:])
	p.Time.Sec = int64(binary.BigEndian.Uint64(data[24:]))
	p.Time.Nsec = binary.BigEndian.Uint32(data[32:])
	p.Epoch = binary.BigEndian.Uint32(data[36:])
	n := binary.BigEndian.Uint32(data[40:])
	keyFile := int(binary.BigEndian.Uint16(data[44:]))
	fold := int(binary.BigEndian.Uint16(data[46:]))
	segment := int(binary.BigEndian.Uint16(data[48:]))
	p.R = R(data[50:63])
	p.KeyFile.Hash = Hash(data[64:96])
	p.Fold.Hash = Hash(data[96:128])
	size = rootPrefixSize + keyFile + fold + segment
	if p.Time.Nsec > 999_999_999 || n == 0 || n%padTo != 0 || n > MaxRoot ||
		max(keyFile, fold, segment) > maxName || len(data) < size {
		return fail(damaged("prefix"))
	}
	names := string(data[rootPrefixSize:size])
	p.KeyFile.Name, names = names[:keyFile], names[keyFile:]
	p.Fold.Name, p.FirstSegment = names[:fold], names[fold:]
	err = errors.Join(checkName(p.KeyFile.Name, KindKeyFile), checkName(p.Fold.Name, KindFold))
	if p.FirstSegment != "" {
		err = errors.Join(err, checkName(p.FirstSegment, KindSegment))
	}
	if err != nil {
		return fail(damaged(err.Error()))
	}
	return p, Suite(data[offSuite]), size, int(n), nil
}

// Bounds of what a root holds.
const (
	maxHost     = 255
	maxIdentity = 1024
	rootItems   = 15
	termItems   = 13
)

// encodeRoot returns the body: one array of the fields after the prefix, in order.
func encodeRoot(r *Root) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	b := appendArray(appendArray(make([]byte, 0, 4096), rootItems), len(r.Terms))
	for i := range r.Terms {
		b = appendTerm(b, &r.Terms[i])
	}
	b = appendBytes(appendUint(b, r.Cut), r.CutHash[:])
	b = appendSegmentRef(appendSegmentRef(b, &r.First), &r.Last)
	b = appendUint(b, uint64(r.Segments))
	b = appendArray(b, len(r.Dirs))
	for i := range r.Dirs {
		b = appendEntry(b, &r.Dirs[i])
	}
	b = appendBytes(appendObjRef(b, &r.Predecessor), r.Identity)
	b = appendUint(appendUint(b, r.LastFold), r.Purged)
	b = appendUint(appendUint(b, r.Bytes), r.Objects)
	b = appendArray(b, 0) // room for snapshots and domains
	b = appendArray(b, len(r.Epochs))
	for _, e := range r.Epochs {
		b = appendTime(appendUint(appendUint(appendArray(b, 3), uint64(e.Epoch)), e.Fold), e.Began)
	}
	return b, nil
}

func (r *Root) check() error {
	if len(r.Terms) > MaxRootTerms || len(r.Identity) > maxIdentity {
		return errors.New("too many terms or too long an identity")
	}
	for i := range r.Terms {
		t := &r.Terms[i]
		if len(t.Host) > maxHost || len(t.User) > maxHost || t.Began.Nsec > 999_999_999 {
			return fmt.Errorf("term %d: host, user or time", t.Number)
		}
	}
	if err := checkEpochs(r.Epochs); err != nil {
		return err
	}
	for i, name := range [...]string{DirTop, DirLinks, DirNameless} {
		e := &r.Dirs[i]
		if err := e.Check(); err != nil {
			return err
		}
		if e.Type != TypeDirectory || e.Name != name {
			return fmt.Errorf("directory %d is not %s", i, name)
		}
	}
	for _, s := range []*SegmentRef{&r.First, &r.Last} {
		if s.IsZero() {
			continue
		}
		if err := checkName(s.Name, KindSegment); err != nil {
			return err
		}
	}
	if !r.Predecessor.IsZero() {
		return checkName(r.Predecessor.Name, KindOldRoot)
	}
	return nil
}

// checkEpochs checks that epochs rise.
func checkEpochs(starts []EpochStart) error {
	if len(starts) == 0 || len(starts) > MaxRootEpochs {
		return errors.New("none or too many beginnings of key epochs")
	}
	for i := range starts {
		if starts[i].Began.Nsec > 999_999_999 {
			return errors.New("time of a key epoch")
		}
		if i == 0 {
			continue
		}
		if starts[i].Epoch <= starts[i-1].Epoch || starts[i].Fold < starts[i-1].Fold {
			return errors.New("key epochs do not rise")
		}
	}
	return nil
}

func appendTerm(b []byte, t *Term) []byte {
	b = appendUint(appendArray(b, termItems), t.Number)
	b = appendBytes(b, t.Tag[:])
	b = appendBytes(appendBytes(b, t.Host), t.User)
	b = appendTime(appendBytes(b, t.StateID[:]), t.Began)
	b = appendBytes(appendUint(b, t.LastBatch), t.LastHash[:])
	b = appendUint(appendUint(b, t.LastFold), t.LastRootSeq)
	return appendBytes(appendBool(appendBytes(b, t.LastRootR[:]), t.Closed), t.Slot[:])
}

func (d *decoder) term() (t Term) {
	d.tuple(termItems)
	t.Number = d.uint64()
	d.fixed(t.Tag[:])
	t.Host = string(d.bytes(0, maxHost))
	t.User = string(d.bytes(0, maxHost))
	d.fixed(t.StateID[:])
	t.Began = d.time()
	t.LastBatch = d.uint64()
	d.fixed(t.LastHash[:])
	t.LastFold = d.uint64()
	t.LastRootSeq = d.uint64()
	d.fixed(t.LastRootR[:])
	t.Closed = d.bool()
	d.fixed(t.Slot[:])
	return t
}

// appendSegmentRef appends null for the zero SegmentRef, else [name, length, end hash].
func appendSegmentRef(b []byte, s *SegmentRef) []byte {
	if s.IsZero() {
		return appendNull(b)
	}
	b = appendBytes(appendArray(b, 3), s.Name)
	return appendBytes(appendUint(b, s.Length), s.EndHash[:])
}

func (d *decoder) segmentRef() (s SegmentRef) {
	if d.null() {
		return s
	}
	d.tuple(3)
	s.Name = d.objName(KindSegment)
	s.Length = d.uint64()
	d.fixed(s.EndHash[:])
	return s
}

// decodeRoot is the inverse of encodeRoot.
func decodeRoot(body []byte, r *Root) error {
	d := decoder{b: body}
	d.tuple(rootItems)
	n := d.array(MaxRootTerms)
	for ; n > 0 && d.err == nil; n-- {
		r.Terms = append(r.Terms, d.term())
	}
	r.Cut = d.uint64()
	d.fixed(r.CutHash[:])
	r.First = d.segmentRef()
	r.Last = d.segmentRef()
	r.Segments = d.uint32()
	d.tuple(len(r.Dirs))
	for i := range r.Dirs {
		d.entry(&r.Dirs[i], "")
	}
	r.Predecessor = d.objRef(KindOldRoot)
	if id := d.bytes(0, maxIdentity); len(id) > 0 {
		r.Identity = append([]byte{}, id...)
	}
	r.LastFold = d.uint64()
	r.Purged = d.uint64()
	r.Bytes = d.uint64()
	r.Objects = d.uint64()
	d.tuple(0)
	for n := d.array(MaxRootEpochs); n > 0 && d.err == nil; n-- {
		d.tuple(3)
		r.Epochs = append(r.Epochs, EpochStart{Epoch: d.uint32(), Fold: d.uint64(), Began: d.time()})
	}
	if err := d.end(); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return damaged(err.Error())
	}
	return nil
}
