package blockcrypt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Born is one object that a fold added to the tree.
type Born struct {
	Name   string
	Length uint64 // bytes
	CRC32C uint32 // Castagnoli, of the object's first Length bytes
	Hash   Hash   // zero for extents
	Domain ID
}

// Dead is one object that a fold removed from the tree.
type Dead struct {
	Name   string
	Birth  uint64 // fold that could first name it
	Died   uint64 // number of the fold that removed it
	Length uint64 // bytes
}

// FoldRecord says, readable without a key, which objects a fold (or a merged run of folds) added and removed.
type FoldRecord struct {
	Seq   uint64
	R     R
	Time  Time
	Epoch uint32
	Term  uint64
	From  uint64   // a merged run covers the folds From to Seq; otherwise From = Seq
	Runs  []ObjRef // all older runs that are still needed, newest first
	Cut   uint64   // number of the last batch folded
	Born  []Born
	Dead  []Dead
}

// MaxFold is the largest fold record in bytes.
const MaxFold = 8 << 20

// Sizes of a fold record, in bytes: clear prefix, MAC at the end.
const (
	foldPrefixSize = 64
	foldMACSize    = sha256.Size
)

const (
	maxFoldRuns  = 1 << 16
	maxFoldItems = 1 << 20
	foldItems    = 6
)

// EncodeFold returns the fold record that will lie under name, with its MAC. kek is the KEK of f.Epoch. Born and Dead are
// stored sorted by name; no name may stand in one of them twice.
func (v Vault) EncodeFold(kek []byte, name string, f *FoldRecord) ([]byte, error) {
	data, err := v.encodeFold(kek, name, f)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	return data, nil
}

func (v Vault) encodeFold(kek []byte, name string, f *FoldRecord) ([]byte, error) {
	if err := f.checkName(name); err != nil {
		return nil, err
	}
	if f.Time.Nsec > 999_999_999 || f.From > f.Seq {
		return nil, errors.New("time or first fold of the run")
	}
	p := make([]byte, foldPrefixSize, 4096)
	putMagic(p, KindFold, 0)
	binary.BigEndian.PutUint64(p[16:], f.Seq)
	binary.BigEndian.PutUint32(p[24:], f.Epoch)
	copy(p[32:], f.R[:])
	data, err := appendFoldBody(p, f)
	if err != nil {
		return nil, err
	}
	if len(data)+foldMACSize > MaxFold {
		return nil, fmt.Errorf("%d bytes are too many", len(data))
	}
	binary.BigEndian.PutUint32(data[28:], uint32(len(data)-foldPrefixSize))
	return append(data, v.foldMAC(kek, f.Epoch, name, data)...), nil
}

// checkName checks that the record lies under the name that its own numbers give.
func (f *FoldRecord) checkName(name string) error {
	if want := (Name{Kind: KindFold, Seq: f.Seq, R: f.R}).String(); name != want {
		return fmt.Errorf("the record is that of %s", want)
	}
	return nil
}

func (v Vault) foldMAC(kek []byte, epoch uint32, name string, data []byte) []byte {
	mac := hmac.New(sha256.New, Derive(kek, nil, KeySize, "fold", v.ID[:], U32(epoch), []byte(name)))
	mac.Write(data)
	return mac.Sum(nil)
}

// appendFoldBody appends [time, term, from, runs, cut, [born, dead]].
func appendFoldBody(b []byte, f *FoldRecord) ([]byte, error) {
	born := sortedBy(f.Born, func(x Born) string { return x.Name })
	dead := sortedBy(f.Dead, func(x Dead) string { return x.Name })
	if len(f.Runs) > maxFoldRuns || len(born) > maxFoldItems || len(dead) > maxFoldItems {
		return nil, errors.New("too many objects or runs")
	}
	b = appendTime(appendArray(b, foldItems), f.Time)
	b = appendUint(appendUint(b, f.Term), f.From)
	b = appendArray(b, len(f.Runs))
	for i := range f.Runs {
		if err := checkName(f.Runs[i].Name, KindFold); err != nil {
			return nil, err
		}
		b = appendObjRef(b, &f.Runs[i])
	}
	b = appendArray(appendArray(appendUint(b, f.Cut), 2), len(born))
	for i := range born {
		x := &born[i]
		if err := checkListed(x.Name, i > 0 && born[i-1].Name == x.Name); err != nil {
			return nil, err
		}
		b = appendUint(appendBytes(appendArray(b, 5), x.Name), x.Length)
		b = appendUint(b, uint64(x.CRC32C))
		b = appendOrNull(b, x.Hash[:])
		b = appendOrNull(b, x.Domain[:])
	}
	b = appendArray(b, len(dead))
	for i := range dead {
		x := &dead[i]
		if err := checkListed(x.Name, i > 0 && dead[i-1].Name == x.Name); err != nil {
			return nil, err
		}
		b = appendUint(appendBytes(appendArray(b, 4), x.Name), x.Birth)
		b = appendUint(appendUint(b, x.Died), x.Length)
	}
	return b, nil
}

func checkListed(name string, twice bool) error {
	if twice {
		return fmt.Errorf("object %s is listed twice", name)
	}
	return checkName(name, KindInvalid)
}

// sortedBy returns list sorted by name: itself if it is.
func sortedBy[T any](list []T, name func(T) string) []T {
	byName := func(a, b T) int { return strings.Compare(name(a), name(b)) }
	if !slices.IsSortedFunc(list, byName) {
		list = slices.Clone(list)
		slices.SortFunc(list, byName)
	}
	return list
}

// appendOrNull appends null if p is all zero, else p.
func appendOrNull(b, p []byte) []byte {
	if allZero(p) {
		return appendNull(b)
	}
	return appendBytes(b, p)
}

func (d *decoder) fixedOrNull(dst []byte) {
	if d.null() {
		return
	}
	if d.fixed(dst); allZero(dst) {
		d.fail("zeros in place of null")
	}
}

// OpenFold checks the MAC of the fold record asked for under name, and returns it. That its key epoch is one that may
// still be used is for the caller to check.
func (v Vault) OpenFold(keks KEKs, name string, data []byte) (*FoldRecord, error) {
	f, err := v.openFold(keks, name, data)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return f, nil
}

func (v Vault) openFold(keks KEKs, name string, data []byte) (*FoldRecord, error) {
	body, f, err := parseFoldPrefix(data)
	if err != nil {
		return nil, err
	}
	kek, err := findKEK(keks, f.Epoch)
	if err != nil {
		return nil, err
	}
	end := len(data) - foldMACSize
	if !hmac.Equal(data[end:], v.foldMAC(kek, f.Epoch, name, data[:end])) {
		return nil, damaged("authentication code")
	}
	if err := f.checkName(name); err != nil {
		return nil, damaged(err.Error())
	}
	return f, decodeFoldBody(body, f)
}

// DecodeFold returns a fold record without checking its MAC: only that it is well-formed and that all names in it are
// names of objects.
func DecodeFold(data []byte) (*FoldRecord, error) {
	body, f, err := parseFoldPrefix(data)
	if err == nil {
		err = decodeFoldBody(body, f)
	}
	if err != nil {
		return nil, fmt.Errorf("decode fold record: %w", err)
	}
	return f, nil
}

func parseFoldPrefix(data []byte) (body []byte, f *FoldRecord, err error) {
	if err := checkMagic(data, KindFold, foldPrefixSize+foldMACSize); err != nil {
		return nil, nil, err
	}
	if !allZero(data[offSuite:16]) || !allZero(data[45:foldPrefixSize]) {
		return nil, nil, damaged("reserved bytes")
	}
	body = data[foldPrefixSize : len(data)-foldMACSize]
	if len(data) > MaxFold || uint64(binary.BigEndian.Uint32(data[28:])) != uint64(len(body)) {
		return nil, nil, damaged("length")
	}
	return body, &FoldRecord{
		Seq:   binary.BigEndian.Uint64(data[16:]),
		Epoch: binary.BigEndian.Uint32(data[24:]),
		R:     R(data[32:45]),
	}, nil
}

func decodeFoldBody(body []byte, f *FoldRecord) error {
	d := decoder{b: body}
	d.tuple(foldItems)
	f.Time = d.time()
	f.Term = d.uint64()
	f.From = d.uint(f.Seq)
	for n := d.array(maxFoldRuns); n > 0 && d.err == nil; n-- {
		r := d.objRef(KindFold)
		if r.IsZero() {
			d.fail("run without a name")
		}
		f.Runs = append(f.Runs, r)
	}
	f.Cut = d.uint64()
	d.tuple(2)
	last := ""
	for n := d.array(maxFoldItems); n > 0 && d.err == nil; n-- {
		var x Born
		d.tuple(5)
		x.Name = d.listed(&last)
		x.Length = d.uint64()
		x.CRC32C = d.uint32()
		d.fixedOrNull(x.Hash[:])
		d.fixedOrNull(x.Domain[:])
		f.Born = append(f.Born, x)
	}
	last = ""
	for n := d.array(maxFoldItems); n > 0 && d.err == nil; n-- {
		var x Dead
		d.tuple(4)
		x.Name = d.listed(&last)
		x.Birth, x.Died, x.Length = d.uint64(), d.uint64(), d.uint64()
		f.Dead = append(f.Dead, x)
	}
	return d.end()
}

// listed takes the next name of a sorted list.
func (d *decoder) listed(last *string) string {
	name := d.objName(KindInvalid)
	if d.err == nil && name <= *last {
		d.fail("names not in order")
	}
	*last = name
	return name
}
