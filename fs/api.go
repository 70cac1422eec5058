// Package fs is envfs's file system: inodes, directories and files with POSIX's rules on top of a store of encrypted,
// write-once objects. It knows no FUSE and no particular store.
//
// State is kept in layers: the tree on the store (base, loaded piece by piece and evictable), under deltas that are
// being folded into it (frozen), under the deltas of now (active). Every operation changes the active layer and is
// appended to the journal as a part of one batch before it returns; a fold writes the frozen layer into a new tree in
// the background. See docs/DESIGN.md.
package fs

import (
	"envfs/blockcrypt"
)

// Stat is what stat(2) tells of a file.
type Stat struct {
	Ino    uint64 // first 64 bits of the file's id (0 and 1 remapped); the same after a remount
	Type   blockcrypt.FileType
	Mode   uint32 // permission bits, setuid, setgid, sticky: 07777
	UID    uint32
	GID    uint32
	Nlink  uint32
	Size   uint64
	Blocks uint64 // of 512 bytes
	Atime  blockcrypt.Time
	Mtime  blockcrypt.Time
	Ctime  blockcrypt.Time
	Btime  blockcrypt.Time
}

// Cred is who asks: the owner of what is made, and who pays for clearing setgid.
type Cred struct {
	UID, GID uint32
}

// SetAttr tells which attributes to change; nil fields stay.
type SetAttr struct {
	Mode         *uint32
	UID, GID     *uint32
	Size         *uint64
	Atime, Mtime *blockcrypt.Time
	AtimeNow     bool
	MtimeNow     bool
	KillPriv     bool // clear setuid, setgid (if group-executable) and security.capability
}

// RenameFlags of renameat2(2).
type RenameFlags uint32

// RenameNoReplace refuses to replace an existing name; other flags give ErrInvalid.
const RenameNoReplace RenameFlags = 1

// DirEntry is one name of a directory listing. The cookie is where the listing goes on after it.
type DirEntry struct {
	Name   string
	Ino    uint64
	Type   blockcrypt.FileType // the type of the file itself, also for one of several names
	Cookie uint64
}

// StatFS is what statfs(2) tells. Bytes that deletion after the grace will give back count as free.
type StatFS struct {
	BlockSize           uint32
	Blocks, Free, Avail uint64 // in blocks of BlockSize bytes
	Files, FreeFiles    uint64
	MaxName             uint32
}
