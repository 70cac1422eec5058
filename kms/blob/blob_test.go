package blob

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

var (
	testHeader  = Header{Key: ID{1, 2, 3}, Backing: ID{4, 5, 6}}
	testBacking = bytes.Repeat([]byte{7}, 32)
	testContext = map[string]string{"app": "demo", "stage": "test", "empty": ""}
)

func sealed(t testing.TB) []byte {
	t.Helper()
	b, err := Seal(testHeader, testBacking, []byte("a secret"), testContext)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealOpen(t *testing.T) {
	b := sealed(t)
	if len(b) != Overhead+len("a secret") {
		t.Errorf("blob of %d bytes", len(b))
	}
	h, err := Parse(b)
	if err != nil || h != testHeader {
		t.Fatalf("Parse = %v, %v", h, err)
	}
	got, err := Open(b, testBacking, testContext)
	if err != nil || string(got) != "a secret" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	if bytes.Equal(b, sealed(t)) {
		t.Error("two blobs of one plaintext are the same")
	}
}

// TestGolden opens the blob of docs/KMS.md, which another program made (cryptography of Python).
func TestGolden(t *testing.T) {
	b, err := hex.DecodeString(strings.Join(strings.Fields(golden), ""))
	if err != nil {
		t.Fatal(err)
	}
	backing := make([]byte, 32)
	for i := range backing {
		backing[i] = byte(i)
	}
	got, err := Open(b, backing, map[string]string{"stage": "test", "app": "demo"})
	if err != nil || string(got) != "hello" {
		t.Fatalf("Open = %q, %v", got, err)
	}
}

// TestEveryBitCounts alters each bit, and cuts at each length.
func TestEveryBitCounts(t *testing.T) {
	b := sealed(t)
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if _, err := Open(b, testBacking, testContext); !errors.Is(err, ErrInvalid) {
			t.Fatalf("bit %d altered: %v", i, err)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	for n := range b {
		if _, err := Open(b[:n], testBacking, testContext); !errors.Is(err, ErrInvalid) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := Open(append(b, 0), testBacking, testContext); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a byte more: %v", err)
	}
}

func TestContextCounts(t *testing.T) {
	b := sealed(t)
	for _, context := range []map[string]string{
		nil,
		{"app": "demo", "stage": "test"},
		{"app": "demo", "stage": "test", "empty": "", "more": ""},
		{"app": "demo", "stage": "tesT", "empty": ""},
		{"app": "demo", "Stage": "test", "empty": ""},
		{"app": "test", "stage": "demo", "empty": ""},
		{"appd": "emo", "stage": "test", "empty": ""},
	} {
		if _, err := Open(b, testBacking, context); !errors.Is(err, ErrInvalid) {
			t.Errorf("context %v: %v", context, err)
		}
	}
	other := bytes.Repeat([]byte{8}, 32)
	if _, err := Open(b, other, testContext); !errors.Is(err, ErrInvalid) {
		t.Errorf("another backing key: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(sealed(f), "app", "demo")
	f.Add([]byte{version}, "", "")
	f.Add(make([]byte, Overhead), "a", "b")
	f.Fuzz(func(t *testing.T, b []byte, name, value string) {
		h, err := Parse(b)
		if err == nil && (len(b) < Overhead || !bytes.HasPrefix(b, h.prefix(nil))) {
			t.Fatalf("Parse = %v of %x", h, b)
		}
		if _, err := Open(b, testBacking, map[string]string{name: value}); !errors.Is(err, ErrInvalid) {
			t.Fatalf("Open of bytes that nobody sealed: %v", err)
		}
	})
}
