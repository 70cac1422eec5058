package blockcrypt

import (
	"bytes"
	"math"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// testBodies returns one body of each form that is CBOR as a whole.
func testBodies(t testing.TB) map[string][]byte {
	t.Helper()
	bodies := make(map[string][]byte)
	add := func(what string, b []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		bodies[what] = b
	}
	for _, e := range testEntries() {
		b, err := EncodeEntry(&e)
		add("entry "+e.Name, b, err)
	}
	b, err := encodeHeader(testHeader())
	add("header", b, err)
	b, err = encodeRoot(testRoot())
	add("root", b, err)
	b, err = appendFoldBody(nil, testFold())
	add("fold", b, err)
	b, err = EncodeRunPage(0, testRuns())
	add("run page", b, err)
	b, err = EncodeExtentPage(0, testExtents())
	add("extent page", b, err)
	b, err = EncodeNodePage(2, 0, []NodeChild{{7, testPageRef(1)}})
	add("node page", b, err)
	leaf := makeShard(t, testEntries())
	b, err = EncodeIndex(&Index{Salt: testSalt, Names: uint32(leaf.Len()), Leaf: leaf})
	add("index", b, err)
	b, err = EncodeIndex(&Index{Names: 3, Shards: []ShardRef{{0, 3, testPageRef(1)}}})
	add("shard table", b, err)
	return bodies
}

// TestBodiesAreDeterministicCBOR has another implementation of RFC 8949 read each body and write it again.
func TestBodiesAreDeterministicCBOR(t *testing.T) {
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	for what, body := range testBodies(t) {
		var v any
		if err := dec.Unmarshal(body, &v); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		again, err := enc.Marshal(v)
		if err != nil || !bytes.Equal(again, body) {
			t.Errorf("%s: %v\n%x became\n%x", what, err, body, again)
		}
	}
}

func TestCodecNumbers(t *testing.T) {
	for _, n := range []uint64{0, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, math.MaxUint64} {
		d := decoder{b: appendUint(nil, n)}
		if got := d.uint64(); got != n || d.end() != nil {
			t.Errorf("%d became %d, %v", n, got, d.err)
		}
	}
	for _, n := range []int64{0, -1, 23, -24, -25, math.MaxInt64, math.MinInt64} {
		d := decoder{b: appendInt(nil, n)}
		if got := d.int(); got != n || d.end() != nil {
			t.Errorf("%d became %d, %v", n, got, d.err)
		}
	}
	d := decoder{b: appendUint(nil, math.MaxUint64)}
	if d.int(); d.end() == nil {
		t.Error("2^64-1 is no int64")
	}
}

func TestCodecRefuses(t *testing.T) {
	for what, b := range map[string]string{
		"nothing":               "",
		"long form of 5":        "\x18\x05",
		"long form of 255":      "\x19\x00\xff",
		"long form of 65535":    "\x1a\x00\x00\xff\xff",
		"long form of 2^32-1":   "\x1b\x00\x00\x00\x00\xff\xff\xff\xff",
		"reserved length":       "\x1c",
		"cut number":            "\x19\x01",
		"indefinite bytes":      "\x5f\x41a\xff",
		"indefinite array":      "\x9f\x01\xff",
		"huge array":            "\x9b\x00\x00\x00\x01\x00\x00\x00\x00\x01",
		"huge map":              "\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"huge bytes":            "\x5b\xff\xff\xff\xff\xff\xff\xff\xffa",
		"cut bytes":             "\x42a",
		"break":                 "\xff",
		"simple value in 2":     "\xf8\x20",
		"cut float":             "\xf9\x00",
		"more than one":         "\x01\x01",
		"deep":                  "\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x01",
		"tag without an item":   "\xc1",
		"array without an item": "\x82\x01",
	} {
		d := decoder{b: []byte(b)}
		if d.skip(); d.end() == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	for what, b := range map[string]string{
		"text": "\x63abc", "tag": "\xc1\x01", "map": "\xa1\x01\x82\x02\x03", "float": "\xf9\x3c\x00", "undefined": "\xf7",
	} {
		d := decoder{b: []byte(b)}
		if got := d.skip(); string(got) != b || d.end() != nil {
			t.Errorf("%s: %x, %v", what, got, d.err)
		}
	}
}
