package arena

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestAllocFree(t *testing.T) {
	a, err := New(200)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Locked(); err != nil {
		t.Logf("not locked here: %v", err)
	}
	var keys []*Key
	for {
		k, err := a.Alloc()
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b := k.Bytes()
		if len(b) != KeySize || cap(b) != KeySize {
			t.Fatalf("key of %d bytes, capacity %d", len(b), cap(b))
		}
		if !bytes.Equal(b, make([]byte, KeySize)) {
			t.Fatal("a new key is not zero")
		}
		copy(b, bytes.Repeat([]byte{0xa5}, KeySize))
		keys = append(keys, k)
	}
	if len(keys) < 200 {
		t.Fatalf("room for %d keys, want at least 200", len(keys))
	}
	raw := keys[7].Bytes()
	keys[7].Free()
	keys[7].Free()
	if !bytes.Equal(raw, make([]byte, KeySize)) {
		t.Error("a released key is not wiped")
	}
	if keys[7].Bytes() != nil {
		t.Error("a released key has bytes")
	}
	k, err := a.Alloc()
	if err != nil {
		t.Fatalf("the released place is not used again: %v", err)
	}
	if _, err := a.Alloc(); !errors.Is(err, ErrFull) {
		t.Errorf("freeing twice gave two places: %v", err)
	}
	k.Free()
}

func TestCloseWipes(t *testing.T) {
	a, err := New(4)
	if err != nil {
		t.Fatal(err)
	}
	k, err := a.Alloc()
	if err != nil {
		t.Fatal(err)
	}
	copy(k.Bytes(), "0123456789abcdef0123456789abcdef")
	cells := a.cells
	a.wipe() // the first half of Close; what follows unmaps the memory
	if !bytes.Equal(cells, make([]byte, len(cells))) {
		t.Error("the arena is not wiped")
	}
	a.Close()
	a.Close()
	k.Free()
	if k.Bytes() != nil {
		t.Error("a key of a closed arena has bytes")
	}
	if _, err := a.Alloc(); !errors.Is(err, ErrClosed) {
		t.Errorf("Alloc after Close: %v", err)
	}
}

func TestNewBounds(t *testing.T) {
	for _, n := range []int{-1, 0, MaxKeys + 1} {
		if _, err := New(n); err == nil {
			t.Errorf("New(%d) succeeded", n)
		}
	}
}

func TestConcurrent(t *testing.T) {
	a, err := New(64)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for range 500 {
				k, err := a.Alloc()
				if err != nil {
					t.Error(err)
					return
				}
				b := k.Bytes()
				for i := range b {
					b[i] = byte(g)
				}
				for i := range b {
					if b[i] != byte(g) {
						t.Error("two keys share a place")
						return
					}
				}
				k.Free()
			}
		})
	}
	wg.Wait()
}

func TestNoDumps(t *testing.T) {
	if err := NoDumps(); err != nil {
		t.Fatal(err)
	}
	limits, err := os.ReadFile("/proc/self/limits")
	if os.IsPermission(err) {
		return // what NoDumps wants: others, and a plain user's own, may not look
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Errorf("core limit is %s", strings.TrimSpace(line))
		}
	}
}
