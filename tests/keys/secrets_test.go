package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/keystore"
)

// secrets are what must not be found in what a process leaves.
type secrets map[string][][]byte

// add adds a secret in the forms that it may be written in: as it is, as text, and as the Go runtime shows arguments of
// functions. Of a key each half counts.
func (s secrets) add(name string, secret []byte) {
	secret = bytes.Clone(secret)
	forms := [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(base64.RawStdEncoding.EncodeToString(secret[:len(secret)/3*3]))}
	if len(secret) == blockcrypt.KeySize {
		for at := 0; at < len(secret); at += 8 {
			var shown []string
			for _, b := range secret[at : at+8] {
				shown = append(shown, fmt.Sprintf("%#x", b))
			}
			forms = append(forms, []byte(strings.Join(shown, ", ")), fmt.Appendf(nil, "%#x", binary.LittleEndian.Uint64(secret[at:])))
		}
		forms = append(forms, secret[:16], secret[16:])
	}
	s[name] = append(s[name], forms...)
}

// notIn checks that data holds none of the secrets.
func (s secrets) notIn(t *testing.T, where string, data []byte) {
	t.Helper()
	for name, forms := range s {
		for _, form := range forms {
			if bytes.Contains(data, form) {
				t.Errorf("%s holds %s", where, name)
				break
			}
		}
	}
}

// dataKeys adds the data keys of a vault's files, and what opens it.
func (s secrets) dataKeys(t *testing.T, store string, key []byte) {
	t.Helper()
	p, err := keystore.KeyFile(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(store, blockcrypt.KeyCopyName))
	if err != nil {
		t.Fatal(err)
	}
	file, err := keystore.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := file.Unlock(t.Context(), []keystore.Provider{p})
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	kek, err := keys.KEK(keys.Newest())
	if err != nil {
		t.Fatal(err)
	}
	s.add("the key-encryption key", kek)
	vault := blockcrypt.Vault{Suite: blockcrypt.Suite(file.Params().Suite), ID: file.VaultID()}
	count := 0
	err = filepath.WalkDir(filepath.Join(store, "files"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(store, path)
		n, err := blockcrypt.ParseName(name)
		if err != nil || n.Kind != blockcrypt.KindHeader {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		wrapped, _, _, err := vault.OpenHeader(keys, name, n.ID, data)
		if err != nil {
			return err
		}
		for _, w := range wrapped {
			dek, err := vault.UnwrapDEK(keys, n.ID, w)
			if err != nil {
				return err
			}
			s.add("the data key of "+name, dek[:])
			count++
		}
		return nil
	})
	if err != nil || count == 0 {
		t.Fatalf("%d data keys, %v", count, err)
	}
}

// passphrase returns one that nobody has had before, and a file with it.
func passphrase(t *testing.T, dir string) (text, path string) {
	t.Helper()
	text = "correct horse " + rand.Text()
	path = filepath.Join(dir, "passphrase")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return text, path
}
