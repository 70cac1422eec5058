package blockcrypt

import (
	"bytes"
	"testing"
)

func TestExtentPrefix(t *testing.T) {
	commit := [32]byte{1, 2, 3}
	p := ExtentPrefix(testGen, 4, commit)
	tamper(t, "extent's prefix", p[:], func(b []byte) error {
		if len(b) > ExtentPrefixSize {
			return damaged("the rest is for others to check")
		}
		return CheckExtentPrefix(b, testGen, 4, commit)
	})
	mustDamaged(t, "other key", CheckExtentPrefix(p[:], testGen, 5, commit))
	mustDamaged(t, "other generation", CheckExtentPrefix(p[:], [16]byte{}, 4, commit))
}

func blockCiphers(t testing.TB) (extent, inline *BlockCipher) {
	dek := [32]byte{1, 2, 3}
	extent, err := testVault.NewExtentCipher(&dek, testFile, testGen)
	if err != nil {
		t.Fatal(err)
	}
	inline, err = testVault.NewInlineCipher(&dek, testFile, testGen)
	if err != nil {
		t.Fatal(err)
	}
	return extent, inline
}

func TestBlocks(t *testing.T) {
	defer forgetNonces()
	extent, inline := blockCiphers(t)
	nonce := bytes.Repeat([]byte{9}, NonceSize)
	plain := bytes.Repeat([]byte{7}, BlockSize)
	record := extent.Seal(nil, nonce, plain, 3, 1<<40)
	if len(record) != ExtentRecordSize {
		t.Fatalf("record of %d bytes", len(record))
	}
	for what, open := range map[string]func() ([]byte, error){
		"slot":  func() ([]byte, error) { return extent.Open(nil, record, 4, 1<<40) },
		"block": func() ([]byte, error) { return extent.Open(nil, record, 3, 1<<40+1) },
		"kind":  func() ([]byte, error) { return inline.Open(nil, record, 3, 1<<40) },
		"short": func() ([]byte, error) { return extent.Open(nil, record[:100], 3, 1<<40) },
	} {
		_, err := open()
		mustDamaged(t, what, err)
	}
	got, err := extent.Open(record[NonceSize:NonceSize], record, 3, 1<<40)
	if err != nil || !bytes.Equal(got, plain) || &got[0] != &record[NonceSize] {
		t.Fatalf("in place: %v", err)
	}
	for _, n := range []int{1, 17, BlockSize} {
		record := inline.Seal([]byte("before"), nonce, plain[:n], uint32(n), 0)
		record = record[len("before"):]
		got, err := inline.Open([]byte("x"), record, uint32(n), 0)
		if err != nil || !bytes.Equal(got, append([]byte("x"), plain[:n]...)) {
			t.Errorf("inline block of %d bytes: %v", n, err)
		}
		_, err = inline.Open(nil, record[:len(record)-1], uint32(n), 0)
		mustDamaged(t, "cut inline block", err)
		forgetNonces()
	}
	small := inline.Seal(nil, nonce, []byte("small"), 1, 0)
	tamper(t, "inline block", small, func(b []byte) error {
		_, err := inline.Open(nil, b, 1, 0)
		return err
	})
}

func TestBlockAllocations(t *testing.T) {
	extent, _ := blockCiphers(t)
	rnd := testRand(1)
	nonce := make([]byte, NonceSize)
	plain := make([]byte, BlockSize)
	record := make([]byte, 0, ExtentRecordSize)
	out := make([]byte, 0, BlockSize)
	n := testing.AllocsPerRun(200, func() {
		rnd.Read(nonce)
		record = extent.Seal(record[:0], nonce, plain, 1, 2)
		if _, err := extent.Open(out, record, 1, 2); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 && !nonceChecked {
		t.Errorf("%v allocations a block", n)
	}
}

func BenchmarkBlockSeal(b *testing.B) {
	extent, _ := blockCiphers(b)
	rnd := testRand(1)
	nonce := make([]byte, NonceSize)
	plain := make([]byte, BlockSize)
	record := make([]byte, 0, ExtentRecordSize)
	b.SetBytes(BlockSize)
	b.ReportAllocs()
	for i := range b.N {
		rnd.Read(nonce)
		record = extent.Seal(record[:0], nonce, plain, uint32(i), 2)
	}
}

func BenchmarkBlockOpen(b *testing.B) {
	extent, _ := blockCiphers(b)
	record := extent.Seal(nil, make([]byte, NonceSize), make([]byte, BlockSize), 1, 2)
	out := make([]byte, 0, BlockSize)
	b.SetBytes(BlockSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := extent.Open(out, record, 1, 2); err != nil {
			b.Fatal(err)
		}
	}
	forgetNonces()
}
