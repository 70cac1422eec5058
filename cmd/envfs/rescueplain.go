package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	vfs "envfs/fs"
)

// plainTarget is a directory outside of a vault. What is brought back lies there unencrypted. What is there already stays.
type plainTarget struct {
	top, base string // base lies below top
	placed    map[string]string
}

var _ vfs.RescueTarget = (*plainTarget)(nil)

func (t *plainTarget) at(name string) string { return filepath.Join(t.base, filepath.FromSlash(name)) }

// Dir implements fs.RescueTarget.
func (t *plainTarget) Dir(_ context.Context, name string, st vfs.Stat, _ map[string][]byte) error {
	if err := os.MkdirAll(t.at(name), 0o700); err != nil {
		return err
	}
	return os.Chmod(t.at(name), os.FileMode(st.Mode&0o777)|0o700)
}

// free returns a place for what was named name, and whether what is the same lies there already.
func (t *plainTarget) free(name string, same func(at string, info os.FileInfo) bool) (at string, is bool, err error) {
	at = t.at(name)
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return "", false, err
	}
	dir, last := filepath.Split(at)
	for n := 1; ; n++ {
		at = filepath.Join(dir, vfs.Beside(last, n))
		info, err := os.Lstat(at)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", false, err
		}
		is = err == nil && same(at, info)
		if err != nil || is {
			if t.placed == nil {
				t.placed = make(map[string]string)
			}
			t.placed[name] = at
			return at, is, nil
		}
	}
}

// File implements fs.RescueTarget. Owners and extended attributes stay behind. Whatever has the name is whole.
func (t *plainTarget) File(_ context.Context, name string, st vfs.Stat, _ map[string][]byte, r io.ReaderAt) error {
	mtime := time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))
	at, is, err := t.free(name, func(_ string, info os.FileInfo) bool {
		return info.Mode().IsRegular() && info.Size() == int64(st.Size) && info.ModTime().Equal(mtime)
	})
	if is || err != nil {
		return err
	}
	part := filepath.Join(filepath.Dir(t.base), ".part-"+filepath.Base(t.base))
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) { // an interrupted rescue has left it
		return err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, io.NewSectionReader(r, 0, int64(st.Size))); err == nil {
		err = f.Chmod(os.FileMode(st.Mode&0o777) | 0o600)
	}
	if err == nil {
		err = os.Chtimes(part, mtime, mtime)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, at)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return nil
}

// Symlink implements fs.RescueTarget.
func (t *plainTarget) Symlink(_ context.Context, name string, _ vfs.Stat, target string) error {
	at, is, err := t.free(name, func(at string, _ os.FileInfo) bool {
		to, err := os.Readlink(at)
		return err == nil && to == target
	})
	if is || err != nil {
		return err
	}
	return os.Symlink(target, at)
}

// Link implements fs.RescueTarget.
func (t *plainTarget) Link(_ context.Context, old, name string) error {
	from := t.placed[old]
	first, err := os.Lstat(from)
	if err != nil {
		return err
	}
	at, is, err := t.free(name, func(_ string, info os.FileInfo) bool { return os.SameFile(first, info) })
	if is || err != nil {
		return err
	}
	return os.Link(from, at)
}

// sync makes all directories durable; files are.
func (t *plainTarget) sync() error {
	if !exists(t.base) {
		return nil
	}
	err := filepath.WalkDir(t.base, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDirs(name)
	})
	if err != nil {
		return err
	}
	return syncDirs(filepath.Dir(t.base), t.top, filepath.Dir(t.top))
}
