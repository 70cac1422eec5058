package pin

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"envfs/blockcrypt"
)

func TestOthersAt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pins")
	a, b := blockcrypt.ID{1}, blockcrypt.ID{2}
	others := func(location string, vault blockcrypt.ID, want ...blockcrypt.ID) {
		t.Helper()
		got, err := OthersAt(dir, location, vault)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("at %s: %v, %v; want %v", location, got, err, want)
		}
	}
	others("/here", a)
	pins, err := Load(dir, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, location := range []string{"/here", "/there"} {
		if err := pins.Set(location, Pin{RootSeq: 3}); err != nil {
			t.Fatal(err)
		}
	}
	others("/here", a)
	others("/here", b, a)
	others("/elsewhere", b)
	if err := pins.Forget("/here"); err != nil {
		t.Fatal(err)
	}
	others("/here", b)
	others("/there", b, a)
	if err := os.WriteFile(filepath.Join(dir, b.String()+".json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OthersAt(dir, "/here", a); err == nil {
		t.Error("a file that is none of pins passes")
	}
}
