package blockcrypt

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestEntryRoundTrip(t *testing.T) {
	for _, e := range testEntries() {
		b, err := EncodeEntry(&e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeEntry(b)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%q: got %+v, %v", e.Name, got, err)
		}
		for n := range b {
			if _, err := DecodeEntry(b[:n]); !errors.Is(err, ErrDamaged) {
				t.Errorf("%q: cut to %d bytes: %v", e.Name, n, err)
			}
		}
	}
}

func TestEntrySize(t *testing.T) {
	e := testEntry("a-file-name.txt")
	b, err := EncodeEntry(&e)
	if err != nil || len(b) > 170 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestEntryRefused(t *testing.T) {
	for what, change := range map[string]func(*Entry){
		"no name":       func(e *Entry) { e.Name = "" },
		"long name":     func(e *Entry) { e.Name = strings.Repeat("x", 256) },
		"slash":         func(e *Entry) { e.Name = "a/b" },
		"nul":           func(e *Entry) { e.Name = "a\x00" },
		"dot":           func(e *Entry) { e.Name = "." },
		"dot dot":       func(e *Entry) { e.Name = ".." },
		"type":          func(e *Entry) { e.Type = 9 },
		"link":          func(e *Entry) { e.Type = TypeSymlink },
		"link ref":      func(e *Entry) { e.Type, e.Target = TypeLinkRef, TypeDirectory },
		"mode":          func(e *Entry) { e.Attr.Mode = 0o10000 },
		"nanoseconds":   func(e *Entry) { e.Attr.Mtime.Nsec = 1e9 },
		"flags":         func(e *Entry) { e.Apart = 0x80 },
		"xattr":         func(e *Entry) { e.Xattrs = []Xattr{{}} },
		"xattr's order": func(e *Entry) { e.Xattrs = []Xattr{{Name: "b"}, {Name: "a"}} },
		"xattr twice":   func(e *Entry) { e.Xattrs = []Xattr{{Name: "a"}, {Name: "a"}} },
		"xattr's size":  func(e *Entry) { e.Xattrs = []Xattr{{Name: "a", Value: make([]byte, MaxXattrs)}} },
	} {
		e := testEntry("name")
		change(&e)
		if _, err := EncodeEntry(&e); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
}

func sortEntries(salt *[16]byte, entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(NameHash(salt, a.Name), NameHash(salt, b.Name)), strings.Compare(a.Name, b.Name))
	})
}

func makeShard(t testing.TB, entries []Entry) *Shard {
	t.Helper()
	sortEntries(&testSalt, entries)
	body, err := EncodeShard(&testSalt, entries)
	if err != nil {
		t.Fatal(err)
	}
	s, err := DecodeShard(body)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestShard(t *testing.T) {
	entries := testEntries()
	for i := range 500 {
		entries = append(entries, testEntry(fmt.Sprint("file ", i)))
	}
	s := makeShard(t, entries)
	if s.Len() != len(entries) {
		t.Fatalf("%d entries", s.Len())
	}
	for i, e := range entries {
		h := NameHash(&testSalt, e.Name)
		if s.HashAt(i) != h || s.Search(h) != i {
			t.Fatalf("entry %d has hash %d, is found at %d", i, s.HashAt(i), s.Search(h))
		}
		at, err := s.Entry(i)
		if err != nil || !reflect.DeepEqual(at, e) {
			t.Fatalf("entry %d is %+v, %v", i, at, err)
		}
		found, ok, err := s.Find(h, e.Name)
		if err != nil || !ok || !reflect.DeepEqual(found, e) {
			t.Fatalf("found %+v, %v", found, err)
		}
		if _, ok, err := s.Find(h, e.Name+"x"); ok || err != nil {
			t.Fatalf("found what is not there: %v", err)
		}
	}
	if s.Search(0) != 0 || s.Search(maxHash) != s.Len() {
		t.Error("search beyond the ends")
	}
	var none *Shard
	if _, ok, err := none.Find(5, "x"); none.Len() != 0 || none.Size() != 0 || ok || err != nil {
		t.Error("a nil shard is not empty")
	}
}

func TestShardRefused(t *testing.T) {
	entries := []Entry{testEntry("a"), testEntry("b"), testEntry("c")}
	s := makeShard(t, entries)
	for i := range 4 + 3*slotSize {
		for bit := range 8 {
			body := slices.Clone(s.body)
			body[i] ^= 1 << bit
			// What the offset table cannot tell, reading the entries does, or the hash is not that of the name.
			got, err := DecodeShard(body)
			if err != nil {
				continue
			}
			same := true
			for j := range got.Len() {
				e, err := got.Entry(j)
				same = same && err == nil && got.HashAt(j) == NameHash(&testSalt, e.Name)
			}
			if same {
				t.Errorf("bit %d of byte %d changes nothing", bit, i)
			}
		}
	}
	slices.Reverse(entries)
	if _, err := EncodeShard(&testSalt, entries); err == nil {
		t.Error("encoded entries out of order")
	}
	big := testEntry("a")
	big.Xattrs = []Xattr{{Name: "user.x", Value: make([]byte, MaxInlineXattrs)}}
	if _, err := EncodeShard(&testSalt, []Entry{big}); err == nil {
		t.Error("encoded extended attributes that belong elsewhere")
	}
}

func TestIndex(t *testing.T) {
	leaf := makeShard(t, testEntries())
	empty := makeShard(t, nil)
	for _, ix := range []*Index{
		{Salt: testSalt, Names: uint32(leaf.Len()), Leaf: leaf, Xattrs: []Xattr{{Name: "user.x", Value: make([]byte, 1000)}}},
		{Salt: testSalt, Leaf: empty},
		{Salt: testSalt, Names: 7, Shards: []ShardRef{{0, 3, testPageRef(1)}, {1 << 61, 4, testPageRef(2)}}},
	} {
		body, err := EncodeIndex(ix)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeIndex(body)
		if err != nil {
			t.Fatal(err)
		}
		again, err := EncodeIndex(got)
		if err != nil || string(again) != string(body) || !reflect.DeepEqual(got.Shards, ix.Shards) {
			t.Errorf("got %+v, %v", got, err)
		}
		for n := range body {
			if _, err := DecodeIndex(body[:n]); !errors.Is(err, ErrDamaged) {
				t.Errorf("cut to %d bytes: %v", n, err)
			}
		}
	}
	for what, ix := range map[string]*Index{
		"neither": {},
		"both":    {Names: 1, Shards: []ShardRef{{0, 1, testPageRef(1)}}, Leaf: empty},
		"count":   {Names: 1, Leaf: empty},
		"sum":     {Names: 1, Shards: []ShardRef{{0, 2, testPageRef(1)}}},
		"first":   {Names: 2, Shards: []ShardRef{{1, 2, testPageRef(1)}}},
		"order":   {Names: 2, Shards: []ShardRef{{0, 1, testPageRef(1)}, {0, 1, testPageRef(1)}}},
		"no ref":  {Names: 2, Shards: []ShardRef{{0, 2, PageRef{}}}},
	} {
		if _, err := EncodeIndex(ix); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
}

func TestNameHash(t *testing.T) {
	for i := range 1000 {
		if h := NameHash(&testSalt, fmt.Sprint(i)); h < MinNameHash || h > maxHash {
			t.Fatalf("hash %d", h)
		}
	}
}

func BenchmarkShardFind(b *testing.B) {
	var entries []Entry
	for i := range 1024 {
		entries = append(entries, testEntry(fmt.Sprint("file-name-", i)))
	}
	s := makeShard(b, entries)
	b.ReportAllocs()
	for i := range b.N {
		e := &entries[i%len(entries)]
		if _, ok, err := s.Find(s.HashAt(i%len(entries)), e.Name); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkEntryDecode(b *testing.B) {
	e := testEntry("a-file-name.txt")
	body, err := EncodeEntry(&e)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeEntry(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEntryAppend(b *testing.B) {
	e := testEntry("a-file-name.txt")
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendEntry(buf, &e); err != nil {
			b.Fatal(err)
		}
	}
}
