package fusefs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/blockcrypt"
	"envfs/fs"
)

// cacheTime is how long the kernel may believe what it was told: as good as for ever, since nobody else changes it.
const cacheTime = 24 * time.Hour

// blockSize is what stat(2) recommends for reads and writes. The kernel also counts the pages of a file in it, so it
// must not be larger than one.
const blockSize = 4096

func typeBits(t blockcrypt.FileType) uint32 {
	switch t {
	case blockcrypt.TypeDirectory:
		return syscall.S_IFDIR
	case blockcrypt.TypeSymlink:
		return syscall.S_IFLNK
	default:
		return syscall.S_IFREG
	}
}

func setAttr(a *fuse.Attr, st *fs.Stat) {
	a.Ino = st.Ino
	a.Size = st.Size
	a.Blocks = st.Blocks
	a.Atime, a.Atimensec = uint64(st.Atime.Sec), st.Atime.Nsec
	a.Mtime, a.Mtimensec = uint64(st.Mtime.Sec), st.Mtime.Nsec
	a.Ctime, a.Ctimensec = uint64(st.Ctime.Sec), st.Ctime.Nsec
	a.Mode = typeBits(st.Type) | st.Mode
	a.Nlink = st.Nlink
	a.Owner = fuse.Owner{Uid: st.UID, Gid: st.GID}
	a.Blksize = blockSize
}

// setEntry answers a request that finds or makes a name. The kernel may believe it that long.
func setEntry(out *fuse.EntryOut, node uint64, st *fs.Stat, believe time.Duration) {
	out.NodeId = node
	out.SetEntryTimeout(believe)
	out.SetAttrTimeout(believe)
	setAttr(&out.Attr, st)
}

func sxTime(t blockcrypt.Time) fuse.SxTime {
	return fuse.SxTime{Sec: uint64(t.Sec), Nsec: t.Nsec}
}

// setStatx is setAttr with the time of creation.
func setStatx(s *fuse.Statx, st *fs.Stat) {
	const basicStats, btime = 0x7ff, 0x800 // STATX_BASIC_STATS, STATX_BTIME
	s.Mask = basicStats | btime
	s.Ino = st.Ino
	s.Size = st.Size
	s.Blocks = st.Blocks
	s.Atime = sxTime(st.Atime)
	s.Mtime = sxTime(st.Mtime)
	s.Ctime = sxTime(st.Ctime)
	s.Btime = sxTime(st.Btime)
	s.Mode = uint16(typeBits(st.Type) | st.Mode)
	s.Nlink = st.Nlink
	s.Uid, s.Gid = st.UID, st.GID
	s.Blksize = blockSize
}

// attrChange tells what a SETATTR of a file of type t asks for, and whether that is anything at all.
func attrChange(in *fuse.SetAttrIn, t blockcrypt.FileType) (s fs.SetAttr, any bool) {
	if in.Valid&fuse.FATTR_MODE != 0 {
		mode := in.Mode & 0o7777
		s.Mode = &mode
	}
	if in.Valid&fuse.FATTR_UID != 0 {
		s.UID = &in.Uid
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		s.GID = &in.Gid
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		s.Size = &in.Size
	}
	switch {
	case in.Valid&fuse.FATTR_ATIME_NOW != 0:
		s.AtimeNow = true
	case in.Valid&fuse.FATTR_ATIME != 0:
		s.Atime = &blockcrypt.Time{Sec: int64(in.Atime), Nsec: in.Atimensec}
	}
	switch {
	case in.Valid&fuse.FATTR_MTIME_NOW != 0:
		s.MtimeNow = true
	case in.Valid&fuse.FATTR_MTIME != 0:
		s.Mtime = &blockcrypt.Time{Sec: int64(in.Mtime), Nsec: in.Mtimensec}
	}
	// HANDLE_KILLPRIV_V2: the kernel asks for it where it depends on who truncates, and leaves chown to us.
	chown := in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0 && t != blockcrypt.TypeDirectory
	s.KillPriv = in.Valid&fuse.FATTR_KILL_SUIDGID != 0 || chown
	const known = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID | fuse.FATTR_SIZE | fuse.FATTR_ATIME |
		fuse.FATTR_MTIME | fuse.FATTR_ATIME_NOW | fuse.FATTR_MTIME_NOW | fuse.FATTR_KILL_SUIDGID
	return s, in.Valid&known != 0
}
