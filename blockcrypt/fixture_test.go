package blockcrypt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// testRand is a deterministic source of "random" bytes.
func testRand(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

var testVault = Vault{Suite: AES256GCM, ID: ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}

// keyring is a KEKs of the epochs 1 and 2.
type keyring map[uint32][]byte

var errNoEpoch = errors.New("no such key epoch")

func (k keyring) KEK(epoch uint32) ([]byte, error) {
	if kek, ok := k[epoch]; ok {
		return kek, nil
	}
	return nil, errNoEpoch
}

var testKEKs = keyring{1: bytes.Repeat([]byte{0xa1}, KeySize), 2: bytes.Repeat([]byte{0xa2}, KeySize)}

var (
	testFile = ID{0xf1, 0xf2, 0xf3}
	testDir  = ID{0xd1, 0xd2, 0xd3}
	testR    = R{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
	testX    = Extra{0xe1, 0xe2}
	testGen  = [16]byte{0x91, 0x92}
	testSalt = [16]byte{0x5a, 0x17}
)

func testName(kind Kind) string {
	n := Name{Kind: kind, Seq: 7, Term: 3, R: testR}
	switch kind {
	case KindIndex, KindShard, KindList:
		n.ID, n.Extra = testDir, testX
	case KindHeader, KindExtent, KindMapPage:
		n.ID, n.Extra = testFile, testX
	}
	return n.String()
}

func testTime(sec int64) Time { return Time{Sec: 1_700_000_000 + sec, Nsec: 123_456_789} }

func testAttr() Attr {
	return Attr{Mode: 0o644, UID: 1000, GID: 1000, Nlink: 1, Size: 1_234_567,
		Atime: testTime(1), Mtime: testTime(2), Ctime: testTime(3), Btime: testTime(4)}
}

func testEntry(name string) Entry {
	return Entry{Name: name, Type: TypeRegular, ID: testFile, Attr: testAttr(), Extents: 2,
		Head: Ref{Version: Version{Birth: 4711, R: testR}, Hash: Sum([]byte(name))}}
}

func testDirEntry(name string) Entry {
	e := Entry{Name: name, Type: TypeDirectory, ID: testDir, Attr: testAttr(), Salt: testSalt, Names: 12, Subdirs: 3}
	e.Head = Ref{Version: Version{Birth: 2, R: testR}, Hash: Hash{9}}
	e.Attr.Mode, e.Attr.Size, e.Attr.Nlink = 0o1777, 0, 0
	return e
}

// testEntries has one entry of each form.
func testEntries() []Entry {
	link := Entry{Name: "link", Type: TypeSymlink, ID: ID{3}, Attr: testAttr(), Link: "../else\xffwhere"}
	link.Attr.Atime = Time{Sec: -1, Nsec: 999_999_999}
	regular := testEntry("with attributes")
	regular.Apart = XattrCapability | XattrOther
	regular.Xattrs = []Xattr{{Name: "user.a", Value: []byte{}}, {Name: "user.b", Value: []byte("\x00value")}}
	return []Entry{
		testEntry("plain"), regular, link, testDirEntry("dir"),
		{Name: "empty \xff\xfe", Type: TypeRegular, ID: ID{5}},
		{Name: "hard", Type: TypeLinkRef, Target: TypeSymlink, ID: ID{6}},
	}
}

func testPageRef(n byte) PageRef {
	return PageRef{Ver: Version{Birth: uint64(n), R: testR}, Extra: Extra{n, 1}, Hash: Hash{n, 2}}
}

func testRuns() []Run {
	return []Run{
		{Start: 0, Count: 3, Kind: RunExtent, Extent: 5, Slot: 100},
		{Start: 3, Count: 1, Kind: RunHole},
		{Start: 10, Count: 1, Kind: RunExtent, Extent: 2, Slot: 0},
		{Start: 11, Count: 2, Kind: RunHeader, Slot: 0},
		{Start: 1 << 51, Count: 1 << 51, Kind: RunHole},
	}
}

func testExtents() []ExtentInfo {
	x := ExtentInfo{Number: 2, Ver: Version{Birth: 3, R: testR}, Extra: testX, Generation: testGen,
		DEK: 1, Slots: 200, Live: 4, CRC32C: 0xdeadbeef, Length: 64 + 200*ExtentRecordSize}
	y := x
	y.Number, y.Extra = 5, Extra{7}
	return []ExtentInfo{x, y}
}

func testHeader() *Header {
	return &Header{Entry: testEntry("name"), Parent: testDir, Runs: testRuns(), Extents: testExtents(), NextExt: 6,
		Xattrs:    []Xattr{{Name: "user.big", Value: bytes.Repeat([]byte("x"), 600)}},
		InlineGen: testGen, InlineDEK: 1, InlineLen: []uint32{BlockSize, 17},
		Rest: map[uint64][]byte{99: {0x82, 0x01, 0x63, 'a', 'b', 'c'}, 1 << 40: {0xf6}}}
}

func testRoot() *Root {
	r := &Root{
		RootPrefix: RootPrefix{Seq: 7, R: testR, Time: testTime(0), Epoch: 2,
			KeyFile: ObjRef{testName(KindKeyFile), Hash{1}}, Fold: ObjRef{testName(KindFold), Hash{2}},
			FirstSegment: testName(KindSegment)},
		Terms: []Term{{Number: 3, Tag: testR.Tag(), Host: "host", User: "user", StateID: ID{8}, Began: testTime(9),
			LastBatch: 99, LastHash: Hash{3}, LastFold: 6, LastRootSeq: 7, LastRootR: testR, Closed: true, Slot: ID{6}}},
		Cut: 90, CutHash: Hash{4}, Segments: 1,
		First:       SegmentRef{testName(KindSegment), 4096, Hash{5}},
		Last:        SegmentRef{testName(KindSegment), 4096, Hash{5}},
		Predecessor: ObjRef{testName(KindOldRoot), Hash{6}},
		Identity:    []byte("identity"), LastFold: 6, Purged: 2, Bytes: 1 << 40, Objects: 1000,
		Epochs: []EpochStart{{1, 0, testTime(1)}, {2, 5, testTime(2)}},
	}
	for i, name := range []string{DirTop, DirLinks, DirNameless} {
		r.Dirs[i] = testDirEntry(name)
	}
	return r
}

func testFold() *FoldRecord {
	return &FoldRecord{Seq: 7, R: testR, Time: testTime(0), Epoch: 2, Term: 3, From: 5, Cut: 90,
		Runs: []ObjRef{{testName(KindFold), Hash{7}}},
		Born: []Born{{Name: testName(KindIndex), Length: 500, CRC32C: 1, Hash: Hash{8}},
			{Name: testName(KindExtent), Length: 1 << 33, CRC32C: 2, Domain: ID{9}}},
		Dead: []Dead{{Name: testName(KindHeader), Birth: 1, Died: 6, Length: 777}}}
}

// mustDamaged checks that err is what altered bytes give.
func mustDamaged(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) && !errors.Is(err, errNoEpoch) {
		t.Errorf("%s: got error %v", what, err)
	}
}

// tamper calls open with every change of one bit, every cut and one byte more, none of which may be accepted.
func tamper(t *testing.T, what string, object []byte, open func([]byte) error) {
	t.Helper()
	if err := open(object); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for i := range object {
		for bit := range 8 {
			object[i] ^= 1 << bit
			mustDamaged(t, fmt.Sprintf("%s: bit %d of byte %d", what, bit, i), open(object))
			object[i] ^= 1 << bit
		}
	}
	for n := range object {
		mustDamaged(t, fmt.Sprintf("%s: cut to %d bytes", what, n), open(object[:n:n]))
	}
	mustDamaged(t, what+": one byte more", open(append(bytes.Clone(object), 0)))
}
