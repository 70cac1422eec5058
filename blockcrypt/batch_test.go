package blockcrypt

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func segmentCipher(t testing.TB) *SegmentCipher {
	c, err := testVault.NewSegmentCipher(testKEKs[2], 2, testName(KindSegment))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var testPos = BatchPos{Term: 3, Number: 90, Offset: 128, Prev: Hash{1, 2}}

func TestSegmentPrefix(t *testing.T) {
	want := SegmentPrefix{Epoch: 2, Term: 3, Seq: 7, First: 90}
	b := testVault.AppendSegmentPrefix(nil, want)
	got, err := testVault.ParseSegmentPrefix(b)
	if err != nil || got != want || len(b) != SegmentPrefixSize {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i := range b {
		b[i] ^= 0x40
		if p, err := testVault.ParseSegmentPrefix(b); err == nil && p == want {
			t.Errorf("byte %d says nothing", i)
		}
		b[i] ^= 0x40
	}
}

func TestBatch(t *testing.T) {
	c := segmentCipher(t)
	contents := [][]byte{[]byte("first"), bytes.Repeat([]byte{2}, BlockSize)}
	prefix := testVault.AppendSegmentPrefix(nil, SegmentPrefix{Epoch: 2, Term: 3, Seq: 7, First: 90})
	prefix = append(prefix, make([]byte, 64)...)
	out, hash, where, err := c.SealBatch(prefix, testRand(1), testPos, []byte("meta"), contents)
	if err != nil || len(out)%BatchAlign != 0 {
		t.Fatalf("%d bytes, %v", len(out), err)
	}
	f, err := ParseFrame(out[testPos.Offset:])
	if err != nil || f.Number != 90 || f.Prev != testPos.Prev || int(testPos.Offset)+int(f.Padded()) != len(out) {
		t.Fatalf("frame %+v, %v", f, err)
	}
	batch := out[testPos.Offset:][:f.Length]
	meta, got, err := c.OpenBatch(testPos, batch)
	if err != nil || string(meta) != "meta" || got != hash || hash != Sum(batch) {
		t.Fatalf("meta %q, %v", meta, err)
	}
	for i, ref := range where {
		record := out[ref.Offset:][:ref.RecordLength()]
		plain, err := c.OpenContent([]byte("x"), ref, record)
		if err != nil || string(plain) != "x"+string(contents[i]) {
			t.Fatalf("content %d: %v", i, err)
		}
		for what, change := range map[string]func(*ContentRef){
			"batch":  func(r *ContentRef) { r.Batch++ },
			"offset": func(r *ContentRef) { r.Offset++ },
			"length": func(r *ContentRef) { r.Length++ },
			"index":  func(r *ContentRef) { r.Index++ },
		} {
			bad := ref
			change(&bad)
			_, err := c.OpenContent(nil, bad, record)
			mustDamaged(t, what, err)
		}
	}
	for what, change := range map[string]func(*BatchPos){
		"term":   func(p *BatchPos) { p.Term++ },
		"number": func(p *BatchPos) { p.Number++ },
		"offset": func(p *BatchPos) { p.Offset += BatchAlign },
		"prev":   func(p *BatchPos) { p.Prev[0]++ },
	} {
		bad := testPos
		change(&bad)
		_, _, err := c.OpenBatch(bad, batch)
		mustDamaged(t, what, err)
		if what == "term" {
			if _, _, _, err := c.SealBatch(nil, testRand(2), bad, nil, nil); err == nil {
				t.Error("sealed a batch of another term")
			}
		}
	}
	other, err := testVault.NewSegmentCipher(testKEKs[2], 2, Name{Kind: KindSegment, Term: 3, Seq: 8, R: testR}.String())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = other.OpenBatch(testPos, batch)
	mustDamaged(t, "other segment", err)
	if _, _, _, err := c.SealBatch(nil, testRand(2), testPos, make([]byte, MaxBatch), nil); err == nil {
		t.Error("sealed a batch that is too long")
	}
}

func TestBatchTamper(t *testing.T) {
	c := segmentCipher(t)
	out, _, _, err := c.SealBatch(nil, testRand(3), testPos, []byte("meta"), [][]byte{[]byte("content")})
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseFrame(out)
	if err != nil {
		t.Fatal(err)
	}
	tamper(t, "batch", out[:f.Length:f.Length], func(b []byte) error {
		_, _, err := c.OpenBatch(testPos, b)
		return err
	})
	if !allZero(out[f.Length:]) {
		t.Error("padding")
	}
	for n := range FrameSize {
		if _, err := ParseFrame(out[:n]); !errors.Is(err, ErrNoFrame) {
			t.Errorf("frame of %d bytes: %v", n, err)
		}
	}
	for i := range FrameSize {
		out[i] ^= 1
		if _, err := ParseFrame(out); !errors.Is(err, ErrNoFrame) {
			t.Errorf("byte %d: %v", i, err)
		}
		out[i] ^= 1
	}
	// Whoever mends the checksums is still found by the tag.
	for _, i := range []int{8, 15, 20, offPrev, FrameSize, FrameSize + 20} {
		bad := bytes.Clone(out[:f.Length])
		bad[i] ^= 1
		finishFrame(bad)
		_, _, err := c.OpenBatch(testPos, bad)
		mustDamaged(t, fmt.Sprintf("byte %d, checksums mended", i), err)
	}
}

func BenchmarkSealBatch(b *testing.B) {
	c := segmentCipher(b)
	rnd := testRand(4)
	meta := make([]byte, 200)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := c.SealBatch(buf, rnd, testPos, meta, nil); err != nil {
			b.Fatal(err)
		}
	}
}
