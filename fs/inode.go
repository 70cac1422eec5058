package fs

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"envfs/blockcrypt"
)

// dir is a directory that something refers to: an inode, a child, a layer. It tells where the directory's own entry
// lies, so that any directory in use can be found without a search. Its fields are guarded by FS.mu.
type dir struct {
	id     blockcrypt.ID
	parent *dir // nil: the super directory, whose entries are the three in root
	h      uint64
	name   string
	salt   [16]byte
	index  blockcrypt.Ref // of the index in the base tree; zero: no fold has written one
	stored uint32         // names that the index has, nearly
	refs   int
}

// The hidden directories and the top one are entries of the super directory, which has the zero id and whose entries
// root itself holds. Their hashes are their places in Root.Dirs.
const (
	topName      = "top"
	linksName    = "links"    // files of several names, named by their ids
	namelessName = "nameless" // files that are open and have no name
)

var superNames = [3]string{topName, linksName, namelessName}

// hash returns the place of a name in the order of the directory.
func (d *dir) hash(name string) uint64 {
	if d.parent == nil {
		for i, n := range superNames {
			if n == name {
				return uint64(i)
			}
		}
		return uint64(len(superNames))
	}
	return blockcrypt.NameHash(&d.salt, name)
}

// Inode is a file or directory that somebody refers to. There is one Inode for each at a time. Tag and Aux belong to
// whoever adapts this package to a kernel.
type Inode struct {
	Tag atomic.Uint64
	Aux atomic.Uint64

	id  blockcrypt.ID
	typ blockcrypt.FileType

	// Guarded by FS.mu.
	in      *dir // directory that holds its entry
	h       uint64
	self    *dir // of a directory
	refs    uint64
	ghost   *blockcrypt.Entry // not nil: it has lost its last name, and this is how it was
	content *content          // of a regular file that is open or has unsaved bytes
	seen    seenContent       // of a follower's regular file
	past    []*layer          // of a follower's ghost: what lay over its header in the moment that it is from
}

// ID returns the file's id, which never changes.
func (ino *Inode) ID() blockcrypt.ID { return ino.id }

// Type returns the file's type, which never changes.
func (ino *Inode) Type() blockcrypt.FileType { return ino.typ }

// Ino returns the number that stat(2) shows: the first 64 bits of the id, the same after a remount.
func (ino *Inode) Ino() uint64 { return inoOf(ino.id) }

func inoOf(id blockcrypt.ID) uint64 {
	n := binary.BigEndian.Uint64(id[:])
	if n < 2 { // 0 is no inode number, 1 is the kernel's name for the top
		n += 2
	}
	return n
}

// refDir returns the dir of an entry that lies in parent under hash h, with one more reference.
func (f *FS) refDir(parent *dir, h uint64, e *blockcrypt.Entry) *dir {
	d := f.dirs[e.ID]
	if d != nil && f.follower != nil && (d.parent != parent || d.h != h) {
		f.moveDir(d, parent, h, e.Name) // as others have done, long ago
	}
	if d == nil {
		d = &dir{id: e.ID, parent: parent, h: h, name: e.Name, salt: e.Salt, index: e.Head, stored: e.Names}
		parent.refs++
		f.dirs[e.ID] = d
	}
	d.refs++
	return d
}

func (f *FS) unrefDir(d *dir) {
	for d != nil {
		if d.refs--; d.refs > 0 {
			return
		}
		if f.dirs[d.id] == d {
			delete(f.dirs, d.id)
		}
		d = d.parent
	}
}

// moveDir tells a directory in use its new place.
func (f *FS) moveDir(d *dir, parent *dir, h uint64, name string) {
	parent.refs++
	old := d.parent
	d.parent, d.h, d.name = parent, h, name
	f.unrefDir(old)
}

// inodeFor returns the inode of the file whose entry e lies in directory in, with one more reference.
func (f *FS) inodeFor(in *dir, h uint64, e *blockcrypt.Entry) *Inode {
	ino := f.inodes[e.ID]
	if ino == nil {
		ino = &Inode{id: e.ID, typ: e.Type, in: in, h: h}
		in.refs++
		if e.Type == blockcrypt.TypeDirectory {
			ino.self = f.refDir(in, h, e)
		}
		f.inodes[e.ID] = ino
	} else if f.follower != nil {
		f.rejoin(ino, in, h, e)
	}
	ino.refs++
	return ino
}

// moveInode tells an inode, if there is one, the new place of its entry.
func (f *FS) moveInode(id blockcrypt.ID, in *dir, h uint64) {
	if ino := f.inodes[id]; ino != nil {
		in.refs++
		f.unrefDir(ino.in)
		ino.in, ino.h = in, h
	}
}

// Forget drops n references.
func (f *FS) Forget(ino *Inode, n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n > ino.refs {
		n = ino.refs
	}
	ino.refs -= n
	f.release(ino)
}

// release drops an inode that nobody refers to any more.
func (f *FS) release(ino *Inode) {
	if ino.refs > 0 || ino.content != nil || f.inodes[ino.id] != ino {
		return
	}
	delete(f.inodes, ino.id)
	if ino.self != nil {
		f.unrefDir(ino.self)
	}
	f.unrefDir(ino.in)
}

// asDir returns the directory that ino is.
func (ino *Inode) asDir() (*dir, error) {
	if ino.self == nil {
		return nil, ErrNotDir
	}
	if ino.ghost != nil {
		return nil, ErrNotExist
	}
	return ino.self, nil
}

// label names a file in logs: by id, which tells nothing of its name.
func label(id blockcrypt.ID) string { return fmt.Sprintf("file %s", id) }
