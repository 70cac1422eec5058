package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/fs"
)

// Listing is stateless: the kernel has no directory handle (OPENDIR is answered ENOSYS), and its offset is the cookie
// of the last name it has seen. Where somebody else writes OPENDIR is answered, as without it the kernel keeps listings.

// OpenDir begins a listing.
func (r *rawFS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if !r.follows {
		return fuse.ENOSYS
	}
	return fuse.OK
}

func dirEntry(e *fs.DirEntry) fuse.DirEntry {
	return fuse.DirEntry{Name: e.Name, Ino: e.Ino, Mode: typeBits(e.Type), Off: e.Cookie}
}

// ReadDir lists names.
func (r *rawFS) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir := r.nodes.get(in.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	err := r.fs.ReadDir(ctx, dir, in.Offset, func(e fs.DirEntry) bool { return out.AddDirEntry(dirEntry(&e)) })
	return r.listed("readdir", in.NodeId, out, err)
}

// ReadDirPlus lists names with what a lookup of each would find.
func (r *rawFS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir := r.nodes.get(in.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	err := r.fs.ReadDirPlus(ctx, dir, in.Offset, func(e fs.DirEntry, ino *fs.Inode, st fs.Stat) bool {
		entry := out.AddDirLookupEntry(dirEntry(&e))
		if entry == nil {
			return false
		}
		if ino != nil { // "." and ".." are no lookups
			r.entry(entry, ino, &st, in.NodeId, e.Name)
		}
		return true
	})
	return r.listed("readdirplus", in.NodeId, out, err)
}

// listed answers with what was listed before an error: with READDIRPLUS the kernel must learn of the lookups in it.
// The error comes again with the next request.
func (r *rawFS) listed(op string, node uint64, out *fuse.DirEntryList, err error) fuse.Status {
	if err != nil && len(out.Bytes()) == 0 {
		return r.status(op, node, err)
	}
	return fuse.OK
}

// FsyncDir answers fsync(2) of a directory.
func (r *rawFS) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return r.status("fsyncdir", in.NodeId, r.fs.Sync(r.ctx))
}
