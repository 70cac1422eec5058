package blockcrypt

import (
	"bytes"
	"testing"
)

// What a decoder accepts, its encoder gives back: there is one spelling of each value.

func seed(f *testing.F) {
	for _, b := range testBodies(f) {
		f.Add(b)
	}
}

func sameBytes(t *testing.T, got []byte, err error, want []byte) {
	t.Helper()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("accepted %x, which encodes as %x, %v", want, got, err)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := DecodeEntry(b); err == nil {
			again, err := EncodeEntry(&e)
			sameBytes(t, again, err, b)
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHeader(b); err == nil {
			again, err := encodeHeader(h)
			sameBytes(t, again, err, b)
		}
	})
}

func FuzzDecodeRoot(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Root
		if err := decodeRoot(b, &r); err == nil {
			again, err := encodeRoot(&r)
			sameBytes(t, again, err, b)
		}
	})
}

func FuzzDecodePages(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if first, runs, err := DecodeRunPage(b); err == nil {
			again, err := EncodeRunPage(first, runs)
			sameBytes(t, again, err, b)
		}
		if first, extents, err := DecodeExtentPage(b); err == nil {
			again, err := EncodeExtentPage(first, extents)
			sameBytes(t, again, err, b)
		}
		if height, first, children, err := DecodeNodePage(b); err == nil {
			again, err := EncodeNodePage(height, first, children)
			sameBytes(t, again, err, b)
		}
	})
}

func FuzzDecodeIndex(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if ix, err := DecodeIndex(b); err == nil {
			again, err := EncodeIndex(ix)
			sameBytes(t, again, err, b)
		}
	})
}

func FuzzDecodeShard(f *testing.F) {
	f.Add(makeShard(f, testEntries()).body)
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeShard(b)
		if err != nil {
			return
		}
		for i := range s.Len() {
			e, err := s.Entry(i)
			if err != nil {
				continue
			}
			again, err := EncodeEntry(&e)
			sameBytes(t, again, err, s.stored(i))
			if _, ok, err := s.Find(s.HashAt(i), e.Name); !ok && err == nil {
				t.Errorf("entry %d is not found", i)
			}
		}
	})
}

func FuzzDecodeFold(f *testing.F) {
	data, err := testVault.EncodeFold(testKEKs[2], testName(KindFold), testFold())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeFold(b); err == nil {
			again, err := appendFoldBody(nil, r)
			sameBytes(t, again, err, b[foldPrefixSize:len(b)-foldMACSize])
		}
	})
}

func FuzzRootPrefix(f *testing.F) {
	data, err := testVault.SealRoot(testRand(20), testKEKs[2], testRoot())
	if err != nil {
		f.Fatal(err)
	}
	forgetNonces()
	f.Add(data)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, suite, size, padded, err := parseRootPrefix(b); err == nil {
			again, err := Vault{Suite: suite}.appendRootPrefix(nil, &p, padded)
			sameBytes(t, again, err, b[:size])
		}
		if _, err := testVault.OpenRoot(testKEKs, b); err == nil && !bytes.Equal(b, data) {
			t.Errorf("opened what was not sealed")
		}
	})
}

func FuzzSegment(f *testing.F) {
	c := segmentCipher(f)
	out, _, _, err := c.SealBatch(nil, testRand(21), testPos, []byte("meta"), [][]byte{[]byte("content")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(out)
	f.Add(testVault.AppendSegmentPrefix(nil, SegmentPrefix{Epoch: 2, Term: 3, Seq: 7, First: 90}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := testVault.ParseSegmentPrefix(b); err == nil {
			sameBytes(t, testVault.AppendSegmentPrefix(nil, p), nil, b[:SegmentPrefixSize])
		}
		frame, err := ParseFrame(b)
		if err != nil {
			return
		}
		again := appendFrame(nil, frame)
		sameBytes(t, again[:offBodyCRC], nil, b[:offBodyCRC])
		if int(frame.Length) > len(b) {
			return
		}
		if _, _, err := c.OpenBatch(testPos, b[:frame.Length]); err == nil && !bytes.HasPrefix(out, b[:frame.Length]) {
			t.Error("opened what was not sealed")
		}
	})
}

func FuzzOpenObject(f *testing.F) {
	obj, _, _ := testHeaderObject(f)
	f.Add(obj)
	index, err := testVault.SealObject(testRand(22), testKEKs[2], 2, KindIndex, testName(KindIndex), []byte("body"))
	if err != nil {
		f.Fatal(err)
	}
	forgetNonces()
	f.Add(index)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := testVault.OpenObject(testKEKs, KindIndex, testName(KindIndex), b); err == nil && !bytes.Equal(b, index) {
			t.Error("opened what was not sealed")
		}
		_, _, _, err := testVault.OpenHeader(testKEKs, testName(KindHeader), testFile, b)
		// The inline blocks are authenticated when they are opened.
		if n := len(obj) - BlockSize - 17 - 2*RecordOverhead; err == nil && !bytes.Equal(b[:n], obj[:n]) {
			t.Error("opened what was not sealed")
		}
	})
}
