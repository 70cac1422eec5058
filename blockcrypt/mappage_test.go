package blockcrypt

import (
	"errors"
	"reflect"
	"testing"
)

func TestPages(t *testing.T) {
	runs := testRuns()
	body, err := EncodeRunPage(0, runs)
	if err != nil {
		t.Fatal(err)
	}
	first, gotRuns, err := DecodeRunPage(body)
	if err != nil || first != 0 || !reflect.DeepEqual(gotRuns, runs) {
		t.Errorf("runs: %+v, %v", gotRuns, err)
	}
	cutPage(t, body)

	extents := testExtents()
	if body, err = EncodeExtentPage(2, extents); err != nil {
		t.Fatal(err)
	}
	number, gotExtents, err := DecodeExtentPage(body)
	if err != nil || number != 2 || !reflect.DeepEqual(gotExtents, extents) {
		t.Errorf("extents: %+v, %v", gotExtents, err)
	}
	cutPage(t, body)

	children := []NodeChild{{0, testPageRef(1)}, {255, testPageRef(2)}}
	if body, err = EncodeNodePage(2, 1<<40, children); err != nil {
		t.Fatal(err)
	}
	height, first, gotChildren, err := DecodeNodePage(body)
	if err != nil || height != 2 || first != 1<<40 || !reflect.DeepEqual(gotChildren, children) {
		t.Errorf("children: %+v, %v", gotChildren, err)
	}
	cutPage(t, body)
}

// cutPage checks that a page that is cut, or read as one of another kind, is refused.
func cutPage(t *testing.T, body []byte) {
	t.Helper()
	accepted := 0
	for n := range len(body) + 1 {
		_, _, err1 := DecodeRunPage(body[:n])
		_, _, err2 := DecodeExtentPage(body[:n])
		_, _, _, err3 := DecodeNodePage(body[:n])
		for _, err := range []error{err1, err2, err3} {
			if err == nil {
				accepted++
			} else if !errors.Is(err, ErrDamaged) {
				t.Errorf("got error %v", err)
			}
		}
	}
	if accepted != 1 {
		t.Errorf("%d of the pages were accepted", accepted)
	}
}

func TestPageSize(t *testing.T) {
	// The worst leaf: each block a run of its own, in extents far apart.
	var runs []Run
	for i := range uint64(4096) {
		runs = append(runs, Run{Start: 1<<40 + i, Count: 1, Kind: RunExtent,
			Extent: 70 + uint32(i*7919%300), Slot: uint32(i * 977 % 1024)})
	}
	body, err := EncodeRunPage(1<<40, runs)
	if err != nil || len(body) > 33<<10 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	t.Logf("4,096 runs take %d bytes", len(body))
}

func TestPagesRefused(t *testing.T) {
	for what, runs := range map[string][]Run{
		"before first": {{Start: 1, Count: 1}},
		"overlap":      {{Start: 10, Count: 2}, {Start: 11, Count: 1}},
		"empty":        {{Start: 10}},
		"journal":      {{Start: 10, Count: 1, Kind: RunJournal}},
		"end":          {{Start: MaxBlocks, Count: 1}},
		"count":        {{Start: 10, Count: 1 << 63}},
		"slot":         {{Start: 10, Count: 2, Kind: RunExtent, Slot: MaxExtentSlots - 1}},
	} {
		if _, err := EncodeRunPage(5, runs); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
	if _, err := EncodeExtentPage(3, testExtents()); err == nil {
		t.Error("encoded an extent before the first")
	}
	for what, children := range map[string][]NodeChild{
		"order":  {{1, testPageRef(1)}, {1, testPageRef(2)}},
		"index":  {{256, testPageRef(1)}},
		"no ref": {{1, PageRef{}}},
	} {
		if _, err := EncodeNodePage(1, 0, children); err == nil {
			t.Errorf("%s: encoded", what)
		}
	}
	if _, err := EncodeNodePage(0, 0, nil); err == nil {
		t.Error("encoded a node without height")
	}
}
