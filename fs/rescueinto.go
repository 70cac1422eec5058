package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"envfs/blockcrypt"
)

// IntoVault is a RescueTarget below a directory of a vault, which is made with those above it.
type IntoVault struct {
	FS   *FS
	Base string // relative to the top
}

var _ RescueTarget = (*IntoVault)(nil)

// rescueStep is how many bytes are read and written at a time.
const rescueStep = 1 << 20

// in calls fn with the directory that a path lies in and the last part of it. What is missing of the directories is made.
func (t *IntoVault) in(ctx context.Context, at string, fn func(dir *Inode, name string) error) error {
	f, parts := t.FS, strings.Split(path.Join(t.Base, at), "/")
	dir, last := f.Root(), len(parts)-1
	for i, name := range parts[:last] {
		next, _, err := f.Lookup(ctx, dir, name)
		if errors.Is(err, ErrNotExist) {
			next, _, err = f.Mkdir(ctx, dir, name, 0o700, Cred{})
		}
		if i > 0 {
			f.Forget(dir, 1)
		}
		if err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		dir = next
	}
	if last > 0 {
		defer f.Forget(dir, 1)
	}
	return fn(dir, parts[last])
}

// Dir implements RescueTarget. A directory that is there already is taken.
func (t *IntoVault) Dir(ctx context.Context, at string, st Stat, xattrs map[string][]byte) error {
	return t.in(ctx, at, func(dir *Inode, name string) error {
		ino, _, err := t.FS.Mkdir(ctx, dir, name, st.Mode, Cred{st.UID, st.GID})
		if errors.Is(err, ErrExist) {
			ino, _, err = t.FS.Lookup(ctx, dir, name)
		}
		if err != nil {
			return err
		}
		defer t.FS.Forget(ino, 1)
		return t.dress(ctx, ino, st, xattrs)
	})
}

// dress gives a file its attributes.
func (t *IntoVault) dress(ctx context.Context, ino *Inode, st Stat, xattrs map[string][]byte) error {
	for name, value := range xattrs {
		if err := t.FS.SetXattr(ctx, ino, name, value, 0); err != nil {
			return err
		}
	}
	_, err := t.FS.SetAttr(ctx, ino, SetAttr{Mode: &st.Mode, UID: &st.UID, GID: &st.GID, Atime: &st.Atime, Mtime: &st.Mtime})
	return err
}

// File implements RescueTarget. A file that an interrupted rescue has left is written anew.
func (t *IntoVault) File(ctx context.Context, at string, st Stat, xattrs map[string][]byte, r io.ReaderAt) error {
	return t.in(ctx, at, func(dir *Inode, name string) error {
		if err := t.FS.Unlink(ctx, dir, name); err != nil && !errors.Is(err, ErrNotExist) {
			return err
		}
		ino, h, _, err := t.FS.Create(ctx, dir, name, st.Mode, Cred{st.UID, st.GID})
		if err != nil {
			return err
		}
		defer t.FS.Forget(ino, 1)
		defer h.Close()
		if err := t.fill(ctx, ino, h, st.Size, r); err != nil {
			if harms(err) { // nobody is to take a part of it for the whole
				err = errors.Join(err, t.FS.Unlink(ctx, dir, name))
			}
			return err
		}
		if err := h.Flush(ctx); err != nil {
			return err
		}
		return t.dress(ctx, ino, st, xattrs)
	})
}

// fill writes what r holds, with holes where it is zero.
func (t *IntoVault) fill(ctx context.Context, ino *Inode, h *File, size uint64, r io.ReaderAt) error {
	if size > 0 {
		if _, err := t.FS.SetAttr(ctx, ino, SetAttr{Size: &size}); err != nil {
			return err
		}
	}
	buf, zero := make([]byte, min(size, rescueStep)), make([]byte, min(size, rescueStep))
	for off := uint64(0); off < size; off += rescueStep {
		n, err := r.ReadAt(buf[:min(uint64(len(buf)), size-off)], int64(off))
		if err != nil && err != io.EOF {
			return err
		}
		if bytes.Equal(buf[:n], zero[:n]) {
			continue
		}
		if _, err := h.WriteAt(ctx, buf[:n], int64(off), false); err != nil {
			return err
		}
	}
	return nil
}

// Symlink implements RescueTarget.
func (t *IntoVault) Symlink(ctx context.Context, at string, st Stat, target string) error {
	return t.in(ctx, at, func(dir *Inode, name string) error {
		ino, _, err := t.FS.Symlink(ctx, dir, name, target, Cred{st.UID, st.GID})
		if errors.Is(err, ErrExist) {
			return nil
		}
		if err == nil {
			t.FS.Forget(ino, 1)
		}
		return err
	})
}

// Link implements RescueTarget.
func (t *IntoVault) Link(ctx context.Context, old, at string) error {
	return t.in(ctx, old, func(from *Inode, name string) error {
		file, st, err := t.FS.Lookup(ctx, from, name)
		if err != nil {
			return err
		}
		defer t.FS.Forget(file, 1)
		if st.Type == blockcrypt.TypeDirectory {
			return ErrInvalid
		}
		return t.in(ctx, at, func(dir *Inode, name string) error {
			ino, _, err := t.FS.Link(ctx, file, dir, name)
			if errors.Is(err, ErrExist) {
				return nil
			}
			if err == nil {
				t.FS.Forget(ino, 1)
			}
			return err
		})
	})
}
