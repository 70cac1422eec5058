package blockcrypt

import (
	"bytes"
	"testing"
)

func testNames() []string {
	var names []string
	for kind := KindRoot; kind <= KindMapPage; kind++ {
		names = append(names, testName(kind))
	}
	return names
}

func TestNames(t *testing.T) {
	for i, s := range testNames() {
		n, err := ParseName(s)
		if err != nil || n.Kind != KindRoot+Kind(i) || n.String() != s {
			t.Errorf("%s: %+v, %v", s, n, err)
		}
	}
	r, id := testR.String(), testDir.String()
	for _, s := range []string{
		"", "/", "root/", "Root", "./root", "roots", "roots/", "roots/7", "roots/07-" + r, "roots/+7-" + r, "roots/7-" + r + "a",
		"roots/7-" + r[:20], "roots/7-" + r + "/x", "../roots/7-" + r, "roots/../root", "roots//7-" + r, "roots/7--" + r,
		"roots/18446744073709551616-" + r, "journal/7-" + r, "journal/1-2-3-" + r, "keys/7-" + r + ".tmp", "other/7-" + r,
		"dirs/" + id[:2] + "/" + id + ".x7-" + r, "dirs/aa/" + id + ".d7-" + r, "dirs/" + id[:2] + "/" + id + ".d7-" + r + "-",
		"dirs/" + id[:2] + "/" + id + ".s7-" + r, "files/" + id[:2] + "/" + id + ".d7-" + r, "dirs/" + id + ".d7-" + r,
	} {
		if n, err := ParseName(s); err == nil {
			t.Errorf("%q: accepted as %+v", s, n)
		}
	}
	// The last character of an id holds bits that must be zero: there is one spelling only.
	last := id[:25] + "b"
	if _, err := ParseID(last); err == nil {
		t.Errorf("accepted %s", last)
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range testNames() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseName(s); err == nil && n.String() != s {
			t.Errorf("%q is also spelled %q", s, n.String())
		}
	})
}

func TestRandomIDs(t *testing.T) {
	id, err := NewID(testRand(1))
	if err != nil || id.IsZero() {
		t.Fatalf("%v, %v", id, err)
	}
	if back, err := ParseID(id.String()); err != nil || back != id {
		t.Errorf("%v, %v", back, err)
	}
	r, err := NewR(testRand(1), Tag{1, 2, 3, 4, 5})
	if err != nil || r.Tag() != (Tag{1, 2, 3, 4, 5}) || bytes.Equal(r[5:], make([]byte, 8)) {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := NewID(bytes.NewReader(nil)); err == nil {
		t.Error("an id without randomness")
	}
}

func TestContext(t *testing.T) {
	got := Context("word", []byte("ab"), nil, U32(1), U64(2))
	want := "\x00\x0aenvfs word\x00\x02ab\x00\x00\x00\x04\x00\x00\x00\x01\x00\x08\x00\x00\x00\x00\x00\x00\x00\x02"
	if string(got) != want {
		t.Errorf("got %q", got)
	}
}

// What telling the parts of a name costs: it is done for every object that is read or written.
func BenchmarkParseName(b *testing.B) {
	n := Name{Kind: KindExtent, ID: ID{1, 2, 3}, Seq: 12345, R: R{4, 5}, Extra: Extra{6}}.String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseName(n); err != nil {
			b.Fatal(err)
		}
	}
}
