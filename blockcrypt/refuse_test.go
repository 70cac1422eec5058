package blockcrypt

import (
	"bytes"
	"errors"
	"testing"
)

// sealedObjects returns one object of each kind with what opens it.
func sealedObjects(t *testing.T) map[string]struct {
	data []byte
	open func(KEKs, []byte) error
} {
	t.Helper()
	type object = struct {
		data []byte
		open func(KEKs, []byte) error
	}
	rnd := testRand(30)
	index, err1 := testVault.SealObject(rnd, testKEKs[2], 2, KindIndex, testName(KindIndex), []byte("body"))
	root, err2 := testVault.SealRoot(rnd, testKEKs[2], testRoot())
	fold, err3 := testVault.EncodeFold(testKEKs[2], testName(KindFold), testFold())
	header, _, _ := testHeaderObject(t)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	forgetNonces()
	prefix := ExtentPrefix(testGen, 1, [32]byte{1})
	return map[string]object{
		"index": {index, func(keks KEKs, b []byte) error {
			_, _, err := testVault.OpenObject(keks, KindIndex, testName(KindIndex), b)
			return err
		}},
		"header": {header, func(keks KEKs, b []byte) error {
			_, _, _, err := testVault.OpenHeader(keks, testName(KindHeader), testFile, b)
			return err
		}},
		"root":        {root, func(keks KEKs, b []byte) error { _, err := testVault.OpenRoot(keks, b); return err }},
		"root prefix": {root, func(keks KEKs, b []byte) error { _, err := ParseRootPrefix(b); return err }},
		"fold":        {fold, func(keks KEKs, b []byte) error { _, err := testVault.OpenFold(keks, testName(KindFold), b); return err }},
		"fold in clear": {fold, func(keks KEKs, b []byte) error {
			_, err := DecodeFold(b)
			return err
		}},
		"extent": {prefix[:], func(keks KEKs, b []byte) error { return CheckExtentPrefix(b, testGen, 1, [32]byte{1}) }},
		"segment": {testVault.AppendSegmentPrefix(nil, SegmentPrefix{}), func(keks KEKs, b []byte) error {
			_, err := testVault.ParseSegmentPrefix(b)
			return err
		}},
	}
}

func TestNewerVersionAndOtherObjects(t *testing.T) {
	for what, o := range sealedObjects(t) {
		if err := o.open(testKEKs, o.data); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		newer := bytes.Clone(o.data)
		newer[offVersion+1]++
		if err := o.open(testKEKs, newer); !errors.Is(err, ErrVersion) || errors.Is(err, ErrDamaged) {
			t.Errorf("%s of a newer version: %v", what, err)
		}
		for _, other := range [][]byte{nil, []byte("envfs"), bytes.Repeat([]byte("x"), 200), make([]byte, 200)} {
			if err := o.open(testKEKs, other); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s from other bytes: %v", what, err)
			}
		}
	}
	c := segmentCipher(t)
	out, _, _, err := c.SealBatch(nil, testRand(31), testPos, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	out[5]++
	finishFrame(out)
	if _, err := ParseFrame(out); !errors.Is(err, ErrVersion) {
		t.Errorf("frame of a newer version: %v", err)
	}
}

func TestMissingKeyIsNoDamage(t *testing.T) {
	for what, o := range sealedObjects(t) {
		switch what {
		case "index", "header", "root", "fold":
			err := o.open(keyring{}, o.data)
			if !errors.Is(err, errNoEpoch) || errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestUnsupportedSuite(t *testing.T) {
	v := Vault{Suite: XChaCha20Poly1305, ID: testVault.ID}
	dek := [32]byte{}
	_, _, err1 := v.OpenObject(testKEKs, KindIndex, testName(KindIndex), nil)
	_, err2 := v.SealRoot(testRand(1), testKEKs[2], testRoot())
	_, err3 := v.OpenRoot(testKEKs, nil)
	_, err4 := v.NewExtentCipher(&dek, testFile, testGen)
	_, err5 := v.NewInlineCipher(&dek, testFile, testGen)
	_, err6 := v.NewSegmentCipher(testKEKs[2], 2, testName(KindSegment))
	_, _, err7 := v.NewDEK(testRand(1), testKEKs[2], 2, testFile, 1)
	_, err8 := v.UnwrapDEK(testKEKs, testFile, WrappedDEK{})
	_, err9 := v.SealHeader(testRand(1), testKEKs[2], 2, testName(KindHeader), testFile, nil, testHeader(), nil)
	_, _, _, err10 := v.OpenHeader(testKEKs, testName(KindHeader), testFile, nil)
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8, err9, err10} {
		if !errors.Is(err, ErrSuite) {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
}

func TestNoRandomness(t *testing.T) {
	empty := bytes.NewReader(nil)
	_, err1 := testVault.SealObject(empty, testKEKs[2], 2, KindIndex, testName(KindIndex), nil)
	_, err2 := testVault.SealRoot(empty, testKEKs[2], testRoot())
	_, _, err3 := testVault.NewDEK(empty, testKEKs[2], 2, testFile, 1)
	_, err4 := testVault.WrapDEK(empty, testKEKs[2], 2, testFile, 1, 2, new([32]byte))
	_, err5 := testVault.SealHeader(empty, testKEKs[2], 2, testName(KindHeader), testFile, nil, &Header{Entry: testEntry("a")}, nil)
	_, _, _, err6 := segmentCipher(t).SealBatch(nil, empty, testPos, nil, nil)
	for i, err := range []error{err1, err2, err3, err4, err5, err6} {
		if err == nil {
			t.Errorf("call %d: sealed without randomness", i+1)
		}
	}
}

func TestHeaderFieldsOfZeroValue(t *testing.T) {
	entry := appendEntry([]byte{headerEntry}, &Entry{Name: "a", Type: TypeRegular})
	for what, field := range map[string][]byte{
		"parent":   append([]byte{headerParent}, appendBytes(nil, make([]byte, 16))...),
		"xattrs":   {headerXattrs, 0x80},
		"runs":     {headerRuns, 0x80},
		"top":      {headerMapTop, cborNull},
		"height":   {headerMapHeight, 0},
		"extents":  {headerExtents, 0x80},
		"ext top":  {headerExtTop, cborNull},
		"ext high": {headerExtHeight, 0},
		"next":     {headerNextExt, 0},
		"gen":      append([]byte{headerInlineGen}, appendBytes(nil, make([]byte, 16))...),
		"dek":      {headerInlineDEK, 0},
		"lengths":  {headerInlineLen, 0x80},
		"twice":    entry,
		"key 0":    {0, 0},
		"length 0": {headerInlineLen, 0x81, 0},
	} {
		body := append(append([]byte{0xa2}, entry...), field...)
		if _, err := decodeHeader(body); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := decodeHeader([]byte{0xa0}); !errors.Is(err, ErrDamaged) {
		t.Errorf("header without an entry: %v", err)
	}
}
