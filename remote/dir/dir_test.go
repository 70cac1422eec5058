package dir_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"envfs/remote"
	"envfs/remote/dir"
)

func TestCreateMakesPrivateDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vault")
	if _, err := dir.Open(path, dir.Options{}); !errors.Is(err, remote.ErrNotExist) {
		t.Fatalf("open of nothing: %v, want ErrNotExist", err)
	}
	for range 2 { // the second time it is there
		s, err := dir.Create(path, dir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v, want 0700", fi.Mode())
	}
}

func TestObjectsArePrivateFilesAtTheirNames(t *testing.T) {
	path := t.TempDir()
	s := openDir(t, path, dir.Options{})
	name := object(1)
	put(t, s, name, "content")
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(path, name))
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode() != 0o600 {
		t.Errorf("object has mode %v, want 0600", fi.Mode())
	}
	fi, err = os.Stat(filepath.Join(path, "files"))
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v, want 0700", fi.Mode())
	}
}

func TestSymbolicLinksAreNotFollowed(t *testing.T) {
	path, outside := t.TempDir(), t.TempDir()
	s := openDir(t, path, dir.Options{})
	if err := os.Symlink(outside, filepath.Join(path, "files")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "f"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "f"), filepath.Join(path, "root")); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), object(1), []byte("x")); err == nil {
		t.Error("put went through a symbolic link")
	}
	if _, err := s.Get(t.Context(), "root", 100); err == nil {
		t.Error("get went through a symbolic link")
	}
	if _, err := s.Size(t.Context(), "root"); err == nil {
		t.Error("size of a symbolic link")
	}
	if got := list(t, s, ""); len(got) != 0 {
		t.Errorf("listed %q", got)
	}
}

func TestVanishedDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vault")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	s := openDir(t, path, dir.Options{})
	name := object(1)
	put(t, s, name, "x")
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // not the one that was opened
		t.Fatal(err)
	}
	ctx := t.Context()
	_, getErr := s.Get(ctx, name, 10)
	_, idErr := s.Identity(ctx)
	for op, err := range map[string]error{
		"get":      getErr,
		"identity": idErr,
		"list":     s.List(ctx, "", func(remote.Info) error { return nil }),
		"list in":  s.List(ctx, "files/", func(remote.Info) error { return nil }),
		"put":      s.Put(ctx, object(2), nil),
		"replace":  s.Replace(ctx, "root", nil, func([]byte) ([]byte, error) { return nil, nil }),
	} {
		if !errors.Is(err, remote.ErrNotExist) {
			t.Errorf("%s: %v, want ErrNotExist", op, err)
		}
	}
}

func TestStaleTemporaryFilesAreRemovedByLock(t *testing.T) {
	path := t.TempDir()
	s := openDir(t, path, dir.Options{})
	temp := filepath.Join(path, ".root.tmp-abc")
	if err := os.WriteFile(temp, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, ""); len(got) != 0 {
		t.Errorf("listed %q", got)
	}
	if err := s.Lock(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(temp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary file after lock: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	path := t.TempDir()
	w := openDir(t, path, dir.Options{})
	put(t, w, object(1), "x")
	s := openDir(t, path, dir.Options{ReadOnly: true})
	ctx := t.Context()
	_, createErr := s.Create(ctx, object(2))
	for op, err := range map[string]error{
		"put":     s.Put(ctx, object(2), nil),
		"create":  createErr,
		"delete":  s.Delete(ctx, object(1)),
		"replace": s.Replace(ctx, "root", nil, func([]byte) ([]byte, error) { return nil, nil }),
		"lock":    s.Lock(),
	} {
		if !errors.Is(err, remote.ErrReadOnly) {
			t.Errorf("%s: %v, want ErrReadOnly", op, err)
		}
	}
	if data, err := s.Get(ctx, object(1), 10); err != nil || string(data) != "x" {
		t.Errorf("get: %q, %v", data, err)
	}
}

func TestConflictCopiesOfRootCanBeRead(t *testing.T) {
	path := t.TempDir()
	s := openDir(t, path, dir.Options{})
	name := "root (conflicted copy 2026)"
	if err := os.WriteFile(filepath.Join(path, name), []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, ""); len(got) != 1 || got[0] != name {
		t.Errorf("listed %q, want %q", got, name)
	}
	data, err := s.Get(t.Context(), name, 10)
	if err != nil || string(data) != "theirs" {
		t.Errorf("get: %q, %v", data, err)
	}
	if err := s.Delete(t.Context(), name); err == nil {
		t.Error("deleted what is no object")
	}
}

func TestLocationIsTheSameByAnyPath(t *testing.T) {
	path := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	a, b := openDir(t, path, dir.Options{}), openDir(t, link+"/../link/", dir.Options{})
	if a.Location() != b.Location() {
		t.Errorf("%q and %q", a.Location(), b.Location())
	}
}
