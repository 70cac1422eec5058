package fs

import (
	"context"
	"errors"

	"envfs/blockcrypt"
)

// Unlink removes a name that is no directory's.
func (f *FS) Unlink(ctx context.Context, dir *Inode, name string) error {
	return f.remove(ctx, dir, name, false)
}

// Rmdir removes an empty directory.
func (f *FS) Rmdir(ctx context.Context, dir *Inode, name string) error {
	return f.remove(ctx, dir, name, true)
}

func (f *FS) remove(ctx context.Context, dir *Inode, name string, wantDir bool) error {
	now := f.now()
	return f.operate(ctx, freeing, func() error {
		p, err := f.place(dir, name)
		if err != nil {
			return err
		}
		e, err := f.findHash(p.d, p.h, name)
		if err != nil {
			return err
		}
		isDir := e.Type == blockcrypt.TypeDirectory
		switch {
		case wantDir && !isDir:
			return ErrNotDir
		case !wantDir && isDir:
			return ErrIsDir
		}
		v, err := f.victim(e)
		if err != nil {
			return err
		}
		f.del(p.d, p.h, name)
		f.kill(v, now)
		subdirs := 0
		if isDir {
			subdirs = -1
		}
		f.count(p.d, p.own, -1, subdirs, now)
		return nil
	})
}

// victim is a file that is about to lose a name, with all that this needs in memory.
type victim struct {
	e      *blockcrypt.Entry // as the name says
	shared *blockcrypt.Entry // e is one of several names: the file's entry
	h      uint64            // of shared
}

// victim finds what losing the name e means, without changing anything.
func (f *FS) victim(e *blockcrypt.Entry) (v victim, err error) {
	v.e = e
	for _, d := range []*dir{f.links, f.nameless} {
		if err := f.prepare(d); err != nil {
			return v, err
		}
		if _, err := f.dirEntry(d); err != nil {
			return v, err
		}
	}
	switch e.Type {
	case blockcrypt.TypeDirectory:
		if e.Names > 0 {
			return v, ErrNotEmpty
		}
	case blockcrypt.TypeLinkRef:
		v.shared, _, v.h, err = f.resolveLink(nil, 0, e)
	}
	return v, err
}

// kill does what follows from the loss of a name that has been removed or overwritten.
func (f *FS) kill(v victim, now blockcrypt.Time) {
	if v.shared == nil {
		e := *v.e
		e.Attr.Nlink, e.Attr.Ctime = 0, now
		f.lastName(&e)
		return
	}
	shared := *v.shared
	shared.Attr.Nlink--
	shared.Attr.Ctime = now
	if shared.Attr.Nlink > 0 {
		f.set(f.links, v.h, &shared)
		return
	}
	f.del(f.links, v.h, shared.Name)
	f.countHidden(f.links, -1)
	f.lastName(&shared)
}

// lastName lets a file that has lost its last name live on without one while it is open, and drops it else.
func (f *FS) lastName(e *blockcrypt.Entry) {
	ino := f.inodes[e.ID]
	if ino != nil && ino.content != nil && ino.content.opens > 0 {
		e.Name = e.ID.String()
		h := f.nameless.hash(e.Name)
		f.set(f.nameless, h, e)
		f.countHidden(f.nameless, 1)
		f.moveInode(e.ID, f.nameless, h)
		return
	}
	f.drop(e)
	if ino != nil {
		ino.ghost = e
	}
}

// dropNameless drops a file without a name that nobody has open any more.
func (f *FS) dropNameless(ctx context.Context, ino *Inode) error {
	return f.apply(ctx, freeing, opRoom, func() error {
		if ino.in != f.nameless || ino.ghost != nil || (ino.content != nil && ino.content.opens > 0) {
			return nil
		}
		e, err := f.findID(f.nameless, ino.h, ino.id)
		if err != nil {
			return err
		}
		if err := f.prepare(f.nameless); err != nil {
			return err
		}
		f.del(f.nameless, ino.h, e.Name)
		f.countHidden(f.nameless, -1)
		f.drop(e)
		ino.ghost = e
		return nil
	})
}

// Rename gives a file another name, replacing what has it, in one step.
func (f *FS) Rename(ctx context.Context, dir *Inode, name string, newDir *Inode, newName string, flags RenameFlags) error {
	if flags&^RenameNoReplace != 0 {
		return ErrInvalid
	}
	now := f.now()
	return f.change(ctx, func() error {
		from, err := f.place(dir, name)
		if err != nil {
			return err
		}
		to, err := f.place(newDir, newName)
		if err != nil {
			return err
		}
		e, err := f.findHash(from.d, from.h, name)
		if err != nil {
			return err
		}
		if err := f.lacks(e.ID); err != nil {
			return err
		}
		old, err := f.findHash(to.d, to.h, newName)
		if err != nil && !errors.Is(err, ErrNotExist) {
			return err
		}
		var v victim
		if err == nil {
			if flags&RenameNoReplace != 0 {
				return ErrExist
			}
			if old.ID == e.ID {
				return nil // two names of one file: POSIX says that nothing happens
			}
			if err := replaceable(e, old); err != nil {
				return err
			}
			if v, err = f.victim(old); err != nil {
				return err
			}
		}
		if e.Type == blockcrypt.TypeDirectory && f.inside(to.d, e.ID) {
			return ErrInvalid
		}
		linked := e.Type == blockcrypt.TypeLinkRef
		var shared *blockcrypt.Entry
		var sharedH uint64
		if linked {
			if err := f.prepare(f.links); err != nil {
				return err
			}
			if shared, _, sharedH, err = f.resolveLink(nil, 0, e); err != nil {
				return err
			}
		}
		f.rename(from, to, e, v, now)
		if linked && (v.shared == nil || v.shared.ID != shared.ID) {
			c := *shared
			c.Attr.Ctime = now
			f.set(f.links, sharedH, &c)
		}
		return nil
	})
}

// lacks tells that bytes of a file were refused for want of space, or cannot be saved, so that it is not what its writer
// meant it to hold: it must not take the place of another then, as a program that does not heed the error of close(2)
// would let it.
func (f *FS) lacks(id blockcrypt.ID) error {
	ino := f.inodes[id]
	switch {
	case ino == nil || ino.content == nil:
		return nil
	case ino.content.isRefused():
		return ErrNoSpace
	}
	return ino.content.harmed()
}

func replaceable(e, old *blockcrypt.Entry) error {
	eDir, oldDir := e.Type == blockcrypt.TypeDirectory, old.Type == blockcrypt.TypeDirectory
	switch {
	case eDir && !oldDir:
		return ErrNotDir
	case !eDir && oldDir:
		return ErrIsDir
	}
	return nil
}

// inside reports whether d is the directory with that id or lies below it.
func (f *FS) inside(d *dir, id blockcrypt.ID) bool {
	for ; d != nil; d = d.parent {
		if d.id == id {
			return true
		}
	}
	return false
}

// rename changes memory and batch; nothing in it can fail.
func (f *FS) rename(from, to place, e *blockcrypt.Entry, v victim, now blockcrypt.Time) {
	moved := *e
	moved.Name = to.name
	if e.Type != blockcrypt.TypeLinkRef {
		moved.Attr.Ctime = now
	}
	f.del(from.d, from.h, from.name)
	f.set(to.d, to.h, &moved)
	subdir, oldDirs, oldNames := 0, 0, 0
	if e.Type == blockcrypt.TypeDirectory {
		subdir = 1
	}
	if v.e != nil {
		oldNames = 1
		if v.e.Type == blockcrypt.TypeDirectory {
			oldDirs = 1
		}
		f.kill(v, now)
	}
	if from.d == to.d {
		f.count(to.d, to.own, -oldNames, -oldDirs, now)
	} else {
		f.count(from.d, from.own, -1, -subdir, now)
		own, err := f.dirEntry(to.d) // may have changed with the line above: it can be from's child
		if err != nil {
			panic("fs: rename: directory was not prepared: " + err.Error())
		}
		f.count(to.d, own, 1-oldNames, subdir-oldDirs, now)
	}
	if e.Type != blockcrypt.TypeLinkRef {
		f.moveInode(e.ID, to.d, to.h)
	}
	if d := f.dirs[e.ID]; d != nil {
		f.moveDir(d, to.d, to.h, to.name)
	}
}
