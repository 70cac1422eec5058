package statefile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/keystore/providertest"
)

func TestProvider(t *testing.T) {
	dir, other := filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "keys")
	aside := dir + ".aside"
	rename := func(from, to string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	providertest.Run(t, providertest.Service{
		Open:    func(*testing.T) keystore.Wrapper { return New(dir) },
		Other:   func(*testing.T) keystore.Wrapper { return New(other) },
		Disable: rename(dir, aside),
		Enable:  rename(aside, dir),
	})
}

// The file is this user's alone; one that is not, or was changed, does not open.
func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	p := New(dir)
	s := keystore.SlotInfo{Vault: blockcrypt.ID{1}, Kind: Kind}
	w, data, err := p.Wrap(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Provider = data
	name := p.path(data.Wrapped)
	st, err := os.Stat(name)
	if err != nil || st.Mode() != 0o600 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(what string) {
		t.Helper()
		if got, err := p.Secret(t.Context(), s); !errors.Is(err, keystore.ErrRefused) || bytes.Equal(got, w) {
			t.Errorf("%s: %v", what, err)
		}
	}
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	refuses("readable by the group")
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, changed := range map[string][]byte{"empty": nil, "cut": text[:40], "longer": append(bytes.Clone(text), '\n'), "no hex": bytes.Repeat([]byte("x"), len(text)),
		"zeros": append(bytes.Repeat([]byte("0"), len(text)-1), '\n')} {
		write(changed)
		refuses(what)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	write(text)
	if err := errors.Join(os.Rename(name, elsewhere), os.Symlink(elsewhere, name)); err != nil {
		t.Fatal(err)
	}
	refuses("a link")
	if err := errors.Join(os.Remove(name), unix.Mkfifo(name, 0o600)); err != nil {
		t.Fatal(err)
	}
	refuses("a pipe")
	if err := errors.Join(os.Remove(name), os.Rename(elsewhere, name)); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Secret(t.Context(), s); err != nil || !bytes.Equal(got, w) {
		t.Errorf("as it was: %v", err)
	}
}
