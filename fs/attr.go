package fs

import (
	"context"
	"fmt"

	"envfs/blockcrypt"
)

// MaxFileSize is the largest size of a file in bytes.
const MaxFileSize = 1 << 52

// stat tells what e and what is not yet in e say of a file. FS.mu is held.
func (f *FS) stat(ino *Inode, e *blockcrypt.Entry) Stat {
	a := e.Attr
	st := Stat{Ino: inoOf(e.ID), Type: e.Type, Mode: a.Mode, UID: a.UID, GID: a.GID, Nlink: a.Nlink, Size: a.Size,
		Atime: a.Atime, Mtime: a.Mtime, Ctime: a.Ctime, Btime: a.Btime}
	switch e.Type {
	case blockcrypt.TypeDirectory:
		st.Nlink = 2 + e.Subdirs
		if ino.ghost != nil {
			st.Nlink = 0
		}
		st.Size = uint64(e.Names)
	case blockcrypt.TypeRegular:
		if c := ino.content; c != nil {
			c.overlay(&st)
		}
	}
	st.Blocks = (st.Size + 511) / 512
	return st
}

// GetAttr returns a file's attributes.
func (f *FS) GetAttr(ctx context.Context, ino *Inode) (st Stat, err error) {
	err = f.view(ctx, func() error {
		e, err := f.entry(ino)
		if err == nil {
			st = f.stat(ino, e)
		}
		return err
	})
	return st, err
}

// editable finds the entry of a file and makes its directory ready for a change of it.
func (f *FS) editable(ino *Inode) (*blockcrypt.Entry, error) {
	if ino.ghost != nil {
		e := *ino.ghost
		return &e, nil
	}
	e, err := f.entry(ino)
	if err != nil {
		return nil, err
	}
	if err := f.prepare(f.home(ino)); err != nil {
		return nil, err
	}
	c := *e
	return &c, nil
}

// home is the directory that holds the inode's entry.
func (f *FS) home(ino *Inode) *dir {
	if ino.self != nil {
		return ino.self.parent
	}
	return ino.in
}

// save puts a changed entry of the inode in its place.
func (f *FS) save(ino *Inode, e *blockcrypt.Entry) {
	switch {
	case ino.ghost != nil:
		ino.ghost = e
	case ino.self != nil:
		f.set(ino.self.parent, ino.self.h, e)
	default:
		f.set(ino.in, ino.h, e)
	}
}

// SetAttr changes attributes, in one step.
func (f *FS) SetAttr(ctx context.Context, ino *Inode, s SetAttr) (st Stat, err error) {
	if s.Size != nil {
		switch {
		case ino.typ == blockcrypt.TypeDirectory:
			return st, ErrIsDir
		case ino.typ != blockcrypt.TypeRegular:
			return st, ErrInvalid
		case *s.Size > MaxFileSize:
			return st, ErrTooBig
		}
		if err := f.truncate(ctx, ino, *s.Size); err != nil {
			return st, err
		}
		if s.onlySize() {
			return f.GetAttr(ctx, ino)
		}
	}
	now := f.now()
	err = f.change(ctx, func() error {
		e, err := f.editable(ino)
		if err != nil {
			return err
		}
		s.apply(e, now)
		f.save(ino, e)
		st = f.stat(ino, e)
		return nil
	})
	return st, err
}

func (s *SetAttr) onlySize() bool {
	return s.Mode == nil && s.UID == nil && s.GID == nil && s.Atime == nil && s.Mtime == nil && !s.AtimeNow && !s.MtimeNow && !s.KillPriv
}

func (s *SetAttr) apply(e *blockcrypt.Entry, now blockcrypt.Time) {
	a := &e.Attr
	if s.Mode != nil {
		a.Mode = *s.Mode & modeMask
	}
	if s.UID != nil {
		a.UID = *s.UID
	}
	if s.GID != nil {
		a.GID = *s.GID
	}
	if s.Atime != nil {
		a.Atime = *s.Atime
	}
	if s.Mtime != nil {
		a.Mtime = *s.Mtime
	}
	if s.AtimeNow {
		a.Atime = now
	}
	if s.MtimeNow {
		a.Mtime = now
	}
	if s.KillPriv {
		killPriv(e)
	}
	a.Ctime = now
}

// killPriv takes away what lets a file run with others' rights, as Linux does when its content or owner changes.
func killPriv(e *blockcrypt.Entry) {
	e.Attr.Mode &^= modeSetUID
	if e.Attr.Mode&0o010 != 0 {
		e.Attr.Mode &^= modeSetGID
	}
	for i, x := range e.Xattrs {
		if x.Name == xattrCapability {
			e.Xattrs = append(append([]blockcrypt.Xattr(nil), e.Xattrs[:i]...), e.Xattrs[i+1:]...)
			return
		}
	}
}

// hasPriv reports whether killPriv would change something.
func hasPriv(e *blockcrypt.Entry) bool {
	c := *e
	killPriv(&c)
	return c.Attr.Mode != e.Attr.Mode || len(c.Xattrs) != len(e.Xattrs)
}

// Resolve finds a file by its path from the top, following no symbolic links. The inode carries one more reference.
func (f *FS) Resolve(ctx context.Context, path string) (*Inode, Stat, error) {
	ino := f.Root()
	f.mu.Lock()
	ino.refs++
	f.mu.Unlock()
	st, err := f.GetAttr(ctx, ino)
	for _, name := range splitPath(path) {
		if err != nil {
			break
		}
		var next *Inode
		next, st, err = f.Lookup(ctx, ino, name)
		f.Forget(ino, 1)
		ino = next
	}
	if err != nil {
		if ino != nil {
			f.Forget(ino, 1)
		}
		return nil, Stat{}, fmt.Errorf("%s: %w", path, err)
	}
	return ino, st, nil
}

func splitPath(path string) (names []string) {
	start := 0
	for i := 0; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			if part := path[start:i]; part != "" && part != "." {
				names = append(names, part)
			}
			start = i + 1
		}
	}
	return names
}
