package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"envfs/blockcrypt"
)

// IntoVault is a RescueTarget below a directory of a vault, which is made with those above it. What is there already stays
// as it is: a file that is the same is not written again, and one that is another gets a neighbour, name~2.
type IntoVault struct {
	FS   *FS
	Base string // relative to the top

	placed map[string]string // files by the path that they were to have
}

var _ RescueTarget = (*IntoVault)(nil)

// rescueStep is how many bytes are read and written at a time.
const rescueStep = 1 << 20

// in calls fn with the directory that a path lies in and the last part of it. What is missing of the directories is made,
// for whoever has the top one.
func (t *IntoVault) in(ctx context.Context, at string, fn func(dir *Inode, name string) error) error {
	f, parts := t.FS, strings.Split(at, "/")
	dir, last := f.Root(), len(parts)-1
	for i, name := range parts[:last] {
		next, _, err := f.Lookup(ctx, dir, name)
		if errors.Is(err, ErrNotExist) {
			next, err = t.makeDir(ctx, dir, name)
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

func (t *IntoVault) makeDir(ctx context.Context, dir *Inode, name string) (*Inode, error) {
	top, err := t.FS.GetAttr(ctx, t.FS.Root())
	if err != nil {
		return nil, err
	}
	ino, _, err := t.FS.Mkdir(ctx, dir, name, top.Mode, Cred{top.UID, top.GID})
	if err != nil {
		return nil, err
	}
	_, err = t.FS.SetAttr(ctx, ino, SetAttr{Mode: &top.Mode, UID: &top.UID, GID: &top.GID})
	if err != nil {
		t.FS.Forget(ino, 1)
	}
	return ino, err
}

// free returns a name in dir that is not taken, made from name; or one that is, by what same says is the same.
func (t *IntoVault) free(ctx context.Context, dir *Inode, name string, same func(*Inode, Stat) (bool, error)) (free string, is bool, err error) {
	for n := 1; ; n++ {
		free = Beside(name, n)
		ino, st, err := t.FS.Lookup(ctx, dir, free)
		if errors.Is(err, ErrNotExist) {
			return free, false, nil
		}
		if err != nil {
			return "", false, err
		}
		is, err := same(ino, st)
		t.FS.Forget(ino, 1)
		if is || err != nil {
			return free, is, err
		}
	}
}

// put has a file made at a path, under a name that is free, unless what same says is the same is there already. It notes
// where the file lies then.
func (t *IntoVault) put(ctx context.Context, at string, same func(*Inode, Stat) (bool, error), make func(dir *Inode, name string) error) error {
	full := path.Join(t.Base, at)
	return t.in(ctx, full, func(dir *Inode, name string) error {
		name, is, err := t.free(ctx, dir, name, same)
		if err == nil && !is {
			err = make(dir, name)
		}
		if err != nil {
			return err
		}
		if t.placed == nil {
			t.placed = map[string]string{}
		}
		t.placed[at] = path.Join(path.Dir(full), name)
		return nil
	})
}

// Beside returns the n-th name to try for what was named name: name itself, name~2, name~3.
func Beside(name string, n int) string {
	if n == 1 {
		return name
	}
	end := fmt.Sprintf("~%d", n)
	for len(name)+len(end) > maxName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name + end
}

// Dir implements RescueTarget. A directory that is there already is taken.
func (t *IntoVault) Dir(ctx context.Context, at string, st Stat, xattrs map[string][]byte) error {
	return t.in(ctx, path.Join(t.Base, at), func(dir *Inode, name string) error {
		ino, _, err := t.FS.Mkdir(ctx, dir, name, st.Mode, Cred{st.UID, st.GID})
		if errors.Is(err, ErrExist) {
			var has Stat
			if ino, has, err = t.FS.Lookup(ctx, dir, name); err == nil && has.Type != blockcrypt.TypeDirectory {
				t.FS.Forget(ino, 1)
				return fmt.Errorf("%s: %w: move it away", path.Join("/", t.Base, at), ErrNotDir)
			}
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

// part is where a file lies until it is whole.
func (t *IntoVault) part() string { return path.Join(path.Dir(t.Base), ".part-"+path.Base(t.Base)) }

// File implements RescueTarget. Whatever has the name is whole.
func (t *IntoVault) File(ctx context.Context, at string, st Stat, xattrs map[string][]byte, r io.ReaderAt) error {
	same := func(_ *Inode, has Stat) (bool, error) {
		return has.Type == blockcrypt.TypeRegular && has.Size == st.Size && has.Mtime == st.Mtime, nil
	}
	return t.put(ctx, at, same, func(dir *Inode, name string) error {
		return t.in(ctx, t.part(), func(partDir *Inode, part string) error {
			if err := t.write(ctx, partDir, part, st, xattrs, r); err != nil {
				return err
			}
			return t.FS.Rename(ctx, partDir, part, dir, name, RenameNoReplace)
		})
	})
}

// write makes a file, in the place of what an interrupted rescue has left.
func (t *IntoVault) write(ctx context.Context, dir *Inode, name string, st Stat, xattrs map[string][]byte, r io.ReaderAt) error {
	if err := t.FS.Unlink(ctx, dir, name); err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	ino, h, _, err := t.FS.Create(ctx, dir, name, st.Mode, Cred{st.UID, st.GID})
	if err != nil {
		return err
	}
	defer t.FS.Forget(ino, 1)
	defer h.Close()
	if err = t.fill(ctx, ino, h, st.Size, r); err == nil {
		err = h.Flush(ctx)
	}
	if err == nil {
		err = t.dress(ctx, ino, st, xattrs)
	}
	if err != nil {
		return errors.Join(err, t.FS.Unlink(ctx, dir, name))
	}
	return nil
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
	same := func(ino *Inode, has Stat) (bool, error) {
		if has.Type != blockcrypt.TypeSymlink {
			return false, nil
		}
		to, err := t.FS.Readlink(ctx, ino)
		return to == target, err
	}
	return t.put(ctx, at, same, func(dir *Inode, name string) error {
		ino, _, err := t.FS.Symlink(ctx, dir, name, target, Cred{st.UID, st.GID})
		if err == nil {
			t.FS.Forget(ino, 1)
		}
		return err
	})
}

// Link implements RescueTarget.
func (t *IntoVault) Link(ctx context.Context, old, at string) error {
	from, ok := t.placed[old]
	if !ok {
		return fmt.Errorf("link %s: %w", old, ErrNotExist)
	}
	return t.in(ctx, from, func(fromDir *Inode, name string) error {
		file, st, err := t.FS.Lookup(ctx, fromDir, name)
		if err != nil {
			return err
		}
		defer t.FS.Forget(file, 1)
		if st.Type == blockcrypt.TypeDirectory {
			return ErrInvalid
		}
		same := func(ino *Inode, _ Stat) (bool, error) { return ino == file, nil }
		return t.put(ctx, at, same, func(dir *Inode, name string) error {
			ino, _, err := t.FS.Link(ctx, file, dir, name)
			if err == nil {
				t.FS.Forget(ino, 1)
			}
			return err
		})
	})
}
