package secret

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPassphraseSources(t *testing.T) {
	for _, c := range []struct {
		name string
		src  Source
		want string // empty: an error
	}{
		{"file", Source{PassFile: write(t, "se same\n", 0o600)}, "se same"},
		{"file without end of line", Source{PassFile: write(t, "sesame", 0o600)}, "sesame"},
		{"file from Windows", Source{PassFile: write(t, "sesame\r\n", 0o600)}, "sesame"},
		{"spaces stay", Source{PassFile: write(t, " sesame \n", 0o600)}, " sesame "},
		{"command", Source{PassCmd: "echo sesame"}, "sesame"},
		{"empty file", Source{PassFile: write(t, "", 0o600)}, ""},
		{"empty line", Source{PassFile: write(t, "\n", 0o600)}, ""},
		{"two lines", Source{PassFile: write(t, "a\nb\n", 0o600)}, ""},
		{"too long", Source{PassFile: write(t, strings.Repeat("x", maxPassphrase+1), 0o600)}, ""},
		{"readable by others", Source{PassFile: write(t, "sesame", 0o640)}, ""},
		{"failing command", Source{PassCmd: "echo sesame; exit 1"}, ""},
		{"endless command", Source{PassCmd: "yes"}, ""},
		{"both", Source{PassCmd: "echo sesame", PassFile: write(t, "sesame", 0o600)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := c.src.Read(t.Context())
			if (err == nil) != (c.want != "") || string(b.Passphrase) != c.want {
				t.Errorf("got %q, %v, want %q", b.Passphrase, err, c.want)
			}
		})
	}
}

func TestKeyFileOthersCanRead(t *testing.T) {
	_, err := (&Source{KeyFile: write(t, strings.Repeat("x", 32), 0o604)}).Read(t.Context())
	if e, ok := errors.AsType[*InsecureError](err); !ok || e.Mode != 0o604 || !errors.Is(err, ErrInsecure) {
		t.Errorf("got %v", err)
	}
}

func TestGenerateKeyFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "key")
	if err := GenerateKeyFile(name); err != nil {
		t.Fatal(err)
	}
	b, err := (&Source{KeyFile: name}).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := b.Providers(nil); err != nil || len(p) != 1 {
		t.Errorf("providers: %v, %v", p, err)
	}
	if err := GenerateKeyFile(name); !errors.Is(err, os.ErrExist) {
		t.Errorf("a key file was overwritten: %v", err)
	}
	held := b.KeyFile
	b.Wipe()
	if held[0] != 0 || b.KeyFile != nil {
		t.Error("a wiped key is still there")
	}
}

func TestTwoOf(t *testing.T) {
	seen := make(map[[2]int]bool)
	for range 2000 {
		a, b, err := twoOf(6)
		if err != nil || a < 0 || a >= b || b >= 6 {
			t.Fatalf("%d, %d, %v", a, b, err)
		}
		seen[[2]int{a, b}] = true
	}
	if len(seen) != 15 {
		t.Errorf("%d of 15 pairs were drawn", len(seen))
	}
	if _, _, err := twoOf(1); err == nil {
		t.Error("two of one")
	}
}

// Who waits for a pipe that nobody writes to can be told to stop.
func TestSilentPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, src := range []Source{{PassFile: name}, {KeyFile: name}} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := src.Read(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	// What still waits for a writer gets one.
	w, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}
