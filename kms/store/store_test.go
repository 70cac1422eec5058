package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"envfs/kms/seal"
)

func keyFile(t *testing.T, b byte) *seal.KeyFile {
	t.Helper()
	k, err := seal.NewKeyFile(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func create(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "kms.db")
	if err := Create(t.Context(), path, keyFile(t, 1), func(*Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string, key byte) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, keyFile(t, key))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func records(t *testing.T, s *Store, table string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := s.Each(table, func(name string, value []byte) error {
		all[name] = string(value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRecords(t *testing.T) {
	path := create(t)
	s := open(t, path, 1)
	err := s.Update(func(tx *Tx) error {
		return errors.Join(tx.Put("keys", "a", []byte("first-value")), tx.Put("keys", "b", []byte("second")), tx.Put("users", "a", nil))
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	if err := s.Update(func(tx *Tx) error { return errors.Join(tx.Delete("keys", "a"), stop) }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err := s.Update(func(tx *Tx) error { return errors.Join(tx.Delete("keys", "b"), tx.Delete("none", "b")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, keyFile(t, 1)); !errors.Is(err, ErrInUse) {
		t.Errorf("open twice: %v", err)
	}
	to, err := s.Seal(t.Context(), keyFile(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(tx *Tx) error { return tx.Reseal(to) }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(t.Context(), path, keyFile(t, 1)); !errors.Is(err, seal.ErrWrong) {
		t.Errorf("the old key: %v", err)
	}
	s = open(t, path, 2)
	defer s.Close()
	if got := fmt.Sprint(records(t, s, "keys")); got != "map[a:first-value]" {
		t.Errorf("records: %s", got)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("first-value")) {
		t.Error("the file shows a value")
	}
}

func TestNone(t *testing.T) {
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "kms.db"), keyFile(t, 1)); !errors.Is(err, ErrNone) {
		t.Errorf("open: %v", err)
	}
	path := create(t)
	if err := Create(t.Context(), path, keyFile(t, 1), func(*Tx) error { return nil }); !errors.Is(err, os.ErrExist) {
		t.Errorf("create over another: %v", err)
	}
	if kind, err := Kind(path); kind != seal.KindKeyFile || err != nil {
		t.Errorf("Kind = %q, %v", kind, err)
	}
}

// TestMovedRecords puts records, as they lie in the file, in the place of others.
func TestMovedRecords(t *testing.T) {
	path := create(t)
	s := open(t, path, 1)
	err := s.Update(func(tx *Tx) error {
		return errors.Join(tx.Put("keys", "a", []byte("one")), tx.Put("keys", "b", []byte("two")), tx.Put("more", "a", []byte("three")))
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(keys, more *bolt.Bucket) error{
		"other name":  func(keys, _ *bolt.Bucket) error { return keys.Put([]byte("b"), keys.Get([]byte("a"))) },
		"other table": func(keys, more *bolt.Bucket) error { return keys.Put([]byte("a"), more.Get([]byte("a"))) },
		"altered": func(keys, _ *bolt.Bucket) error {
			v := bytes.Clone(keys.Get([]byte("a")))
			v[len(v)-1] ^= 1
			return keys.Put([]byte("a"), v)
		},
		"cut": func(keys, _ *bolt.Bucket) error { return keys.Put([]byte("a"), []byte("x")) },
	} {
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := openFile(path)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error { return change(tx.Bucket([]byte("keys")), tx.Bucket([]byte("more"))) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		s := open(t, path, 1)
		err = s.Each("keys", func(string, []byte) error { return nil })
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
}

// TestDamagedFile alters and cuts the file all over. Whatever comes of it, it is no crash, and no record that was not put.
func TestDamagedFile(t *testing.T) {
	path := create(t)
	s := open(t, path, 1)
	want := map[string]string{}
	err := s.Update(func(tx *Tx) error {
		for i := range 300 { // several pages
			name := fmt.Sprintf("key %d", i)
			want[name] = strings.Repeat(name, 5)
			if err := tx.Put("keys", name, []byte(want[name])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "kms.db")
	look := func(what string, data []byte) {
		t.Helper()
		os.Remove(broken)
		if err := os.WriteFile(broken, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), broken, keyFile(t, 1))
		if err != nil {
			return
		}
		defer s.Close()
		err = s.Each("keys", func(name string, value []byte) error {
			if want[name] != string(value) {
				t.Errorf("%s: record %q holds %q", what, name, value)
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	page := os.Getpagesize()
	for at := 0; at < len(whole); at += page {
		look(fmt.Sprintf("cut to %d", at), whole[:at])
		for i := range 48 { // the page's header and its first elements, byte by byte
			for _, v := range []byte{0, 0xff, whole[at+i] ^ 1} {
				altered := bytes.Clone(whole)
				altered[at+i] = v
				look(fmt.Sprintf("byte %d set to %#x", at+i, v), altered)
			}
		}
		zeroed := bytes.Clone(whole)
		clear(zeroed[at : at+page])
		look(fmt.Sprintf("page at %d zeroed", at), zeroed)
	}
}
