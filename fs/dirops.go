package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

const (
	maxName   = 255
	maxTarget = 4095
	maxLinks  = 65_000

	modeSetUID = 0o4000
	modeSetGID = 0o2000
	modeMask   = 0o7777
)

func checkName(name string) error {
	switch {
	case len(name) > maxName:
		return ErrNameTooLong
	case name == "", name == ".", name == "..", strings.ContainsAny(name, "/\x00"):
		return ErrInvalid
	}
	return nil
}

// Lookup finds a name in a directory. The inode carries one more reference.
func (f *FS) Lookup(ctx context.Context, dir *Inode, name string) (ino *Inode, st Stat, err error) {
	if len(name) > maxName {
		return nil, st, ErrNameTooLong
	}
	err = f.view(ctx, func() error {
		d, err := dir.asDir()
		if err != nil {
			return err
		}
		e, h, err := f.find(d, name)
		if err != nil {
			return err
		}
		ino, st, err = f.refEntry(d, h, e)
		return err
	})
	return ino, st, err
}

// refEntry returns the inode and attributes of what the entry e in d stands for.
func (f *FS) refEntry(d *dir, h uint64, e *blockcrypt.Entry) (*Inode, Stat, error) {
	e, d, h, err := f.resolveLink(d, h, e)
	if err != nil {
		return nil, Stat{}, err
	}
	ino := f.inodeFor(d, h, e)
	return ino, f.stat(ino, e), nil
}

// place is where an operation makes or removes a name.
type place struct {
	d    *dir
	own  *blockcrypt.Entry // d's own entry
	h    uint64
	name string
}

// place finds the directory's own entry and makes it ready to be changed.
func (f *FS) place(dir *Inode, name string) (p place, err error) {
	if err := checkName(name); err != nil {
		return p, err
	}
	if p.d, err = dir.asDir(); err != nil {
		return p, err
	}
	if err := f.prepare(p.d); err != nil {
		return p, err
	}
	if p.own, err = f.dirEntry(p.d); err != nil {
		return p, err
	}
	p.name, p.h = name, p.d.hash(name)
	return p, nil
}

// free checks that the name is not there yet.
func (f *FS) free(p place) error {
	_, err := f.findHash(p.d, p.h, p.name)
	if err == nil {
		return ErrExist
	}
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

// count changes how many names and subdirectories d has, and its times.
func (f *FS) count(d *dir, own *blockcrypt.Entry, names, subdirs int, now blockcrypt.Time) *blockcrypt.Entry {
	e := *own
	e.Names = uint32(int64(e.Names) + int64(names))
	e.Subdirs = uint32(int64(e.Subdirs) + int64(subdirs))
	e.Attr.Mtime, e.Attr.Ctime = now, now
	f.set(d.parent, d.h, &e)
	return &e
}

// newEntry is the entry of a new file in a directory.
func (f *FS) newEntry(p place, id blockcrypt.ID, typ blockcrypt.FileType, mode uint32, c Cred, now blockcrypt.Time) *blockcrypt.Entry {
	e := &blockcrypt.Entry{Name: p.name, Type: typ, ID: id, Attr: blockcrypt.Attr{
		Mode: mode & modeMask, UID: c.UID, GID: c.GID, Nlink: 1, Atime: now, Mtime: now, Ctime: now, Btime: now,
	}}
	if p.own.Attr.Mode&modeSetGID != 0 { // a setgid directory passes on its group, and itself to directories
		e.Attr.GID = p.own.Attr.GID
		if typ == blockcrypt.TypeDirectory {
			e.Attr.Mode |= modeSetGID
		}
	}
	return e
}

func (f *FS) newID() (blockcrypt.ID, error) {
	id, err := blockcrypt.NewID(f.rand)
	if err != nil {
		return id, fmt.Errorf("draw a file id: %w", err)
	}
	return id, nil
}

// add makes the entry e in p and returns its inode.
func (f *FS) add(p place, e *blockcrypt.Entry) (*Inode, Stat) {
	f.set(p.d, p.h, e)
	subdirs := 0
	if e.Type == blockcrypt.TypeDirectory {
		subdirs = 1
	}
	f.count(p.d, p.own, 1, subdirs, e.Attr.Ctime)
	ino := f.inodeFor(p.d, p.h, e)
	return ino, f.stat(ino, e)
}

// Mkdir makes a directory.
func (f *FS) Mkdir(ctx context.Context, dir *Inode, name string, mode uint32, c Cred) (ino *Inode, st Stat, err error) {
	now := f.now()
	id, err := f.newID()
	if err != nil {
		return nil, st, err
	}
	var salt [16]byte
	if _, err := io.ReadFull(f.rand, salt[:]); err != nil {
		return nil, st, fmt.Errorf("draw a salt: %w", err)
	}
	err = f.change(ctx, func() error {
		p, err := f.place(dir, name)
		if err != nil {
			return err
		}
		if err := f.free(p); err != nil {
			return err
		}
		e := f.newEntry(p, id, blockcrypt.TypeDirectory, mode, c, now)
		e.Salt = salt
		ino, st = f.add(p, e)
		return nil
	})
	return f.made(ino, st, err)
}

// made drops the reference to what an operation made that could not be committed.
func (f *FS) made(ino *Inode, st Stat, err error) (*Inode, Stat, error) {
	if err != nil && ino != nil {
		f.Forget(ino, 1)
		return nil, Stat{}, err
	}
	return ino, st, err
}

// Symlink makes a symbolic link.
func (f *FS) Symlink(ctx context.Context, dir *Inode, name, target string, c Cred) (ino *Inode, st Stat, err error) {
	switch {
	case len(target) > maxTarget:
		return nil, st, ErrNameTooLong
	case target == "":
		return nil, st, ErrNotExist
	}
	now := f.now()
	id, err := f.newID()
	if err != nil {
		return nil, st, err
	}
	err = f.change(ctx, func() error {
		p, err := f.place(dir, name)
		if err != nil {
			return err
		}
		if err := f.free(p); err != nil {
			return err
		}
		e := f.newEntry(p, id, blockcrypt.TypeSymlink, 0o777, c, now)
		e.Link, e.Attr.Size = target, uint64(len(target))
		ino, st = f.add(p, e)
		return nil
	})
	return f.made(ino, st, err)
}

// Readlink returns a symbolic link's target.
func (f *FS) Readlink(ctx context.Context, ino *Inode) (target string, err error) {
	if ino.typ != blockcrypt.TypeSymlink {
		return "", ErrInvalid
	}
	err = f.view(ctx, func() error {
		e, err := f.entry(ino)
		if err == nil {
			target = e.Link
		}
		return err
	})
	return target, err
}

// Create makes a regular file and opens it.
func (f *FS) Create(ctx context.Context, dir *Inode, name string, mode uint32, c Cred) (ino *Inode, h *File, st Stat, err error) {
	now := f.now()
	id, err := f.newID()
	if err != nil {
		return nil, nil, st, err
	}
	key, err := f.newDEK(id, 1)
	if err != nil {
		return nil, nil, st, err
	}
	err = f.change(ctx, func() error {
		p, err := f.place(dir, name)
		if err != nil {
			return err
		}
		if err := f.free(p); err != nil {
			return err
		}
		e := f.newEntry(p, id, blockcrypt.TypeRegular, mode, c, now)
		ino, st = f.add(p, e)
		keys := journal.Delta{Kind: journal.SetKeys, ID: e.ID, Keys: []blockcrypt.WrappedDEK{key}}
		f.active.apply(&keys, nil)
		f.log(keys)
		h = f.openContent(ino, e)
		return nil
	})
	if err != nil && h != nil {
		h.Close()
	}
	ino, st, err = f.made(ino, st, err)
	return ino, h, st, err
}

// Link gives a file one more name.
func (f *FS) Link(ctx context.Context, ino *Inode, dir *Inode, name string) (_ *Inode, st Stat, err error) {
	if ino.typ == blockcrypt.TypeDirectory {
		return nil, st, ErrPermission
	}
	now := f.now()
	err = f.change(ctx, func() error {
		p, err := f.place(dir, name)
		if err != nil {
			return err
		}
		if err := f.free(p); err != nil {
			return err
		}
		if ino.ghost != nil || ino.in == f.nameless {
			return ErrNotExist
		}
		if err := f.lacks(ino.id); err != nil {
			return err
		}
		e, err := f.entry(ino)
		if err != nil {
			return err
		}
		if e.Attr.Nlink >= maxLinks {
			return ErrTooManyLink
		}
		shared, err := f.share(ino, e)
		if err != nil {
			return err
		}
		shared.Attr.Nlink++
		shared.Attr.Ctime = now
		f.set(f.links, ino.h, shared)
		f.set(p.d, p.h, &blockcrypt.Entry{Name: name, Type: blockcrypt.TypeLinkRef, Target: e.Type, ID: e.ID})
		own, err := f.dirEntry(p.d)
		if err != nil {
			return err
		}
		f.count(p.d, own, 1, 0, now)
		ino.refs++
		st = f.stat(ino, shared)
		return nil
	})
	if err != nil {
		return nil, st, err
	}
	return ino, st, nil
}

// share moves the entry of a file to the hidden directory of files with several names, if it is not there yet, and
// returns a copy to be changed. It is the last step of an operation that can miss.
func (f *FS) share(ino *Inode, e *blockcrypt.Entry) (*blockcrypt.Entry, error) {
	shared := *e
	if ino.in == f.links {
		return &shared, f.prepare(f.links)
	}
	old := ino.in
	for _, d := range []*dir{old, f.links} {
		if err := f.prepare(d); err != nil {
			return nil, err
		}
	}
	if _, err := f.dirEntry(f.links); err != nil {
		return nil, err
	}
	oldH, oldName := ino.h, e.Name
	shared.Name = e.ID.String()
	h := f.links.hash(shared.Name)
	f.set(old, oldH, &blockcrypt.Entry{Name: oldName, Type: blockcrypt.TypeLinkRef, Target: e.Type, ID: e.ID})
	f.moveInode(e.ID, f.links, h)
	f.countHidden(f.links, 1)
	return &shared, nil
}

// countHidden changes the count of names of a hidden directory, whose entry is prepared.
func (f *FS) countHidden(d *dir, names int) {
	own, err := f.dirEntry(d)
	if err != nil {
		panic("fs: hidden directory was not prepared: " + err.Error())
	}
	e := *own
	e.Names = uint32(int64(e.Names) + int64(names))
	f.set(d.parent, d.h, &e)
}
