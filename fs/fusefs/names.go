package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/fs"
)

// Mkdir makes a directory.
func (r *rawFS) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	dir := r.nodes.get(in.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	ino, st, err := r.fs.Mkdir(ctx, dir, name, in.Mode, cred(&in.InHeader))
	if err != nil {
		return r.status("mkdir", in.NodeId, err)
	}
	r.entry(out, ino, &st, in.NodeId, name)
	return fuse.OK
}

// Mknod makes a regular file; there are no special files yet.
func (r *rawFS) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if t := in.Mode & syscall.S_IFMT; t != syscall.S_IFREG && t != 0 {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	dir := r.nodes.get(in.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	ino, file, st, err := r.fs.Create(ctx, dir, name, in.Mode, cred(&in.InHeader))
	if err != nil {
		return r.status("mknod", in.NodeId, err)
	}
	file.Close()
	r.entry(out, ino, &st, in.NodeId, name)
	return fuse.OK
}

// Symlink makes a symbolic link.
func (r *rawFS) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	dir := r.nodes.get(h.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, h)
	defer ctx.end()
	ino, st, err := r.fs.Symlink(ctx, dir, name, target, cred(h))
	if err != nil {
		return r.status("symlink", h.NodeId, err)
	}
	r.entry(out, ino, &st, h.NodeId, name)
	return fuse.OK
}

// Readlink returns the target of a symbolic link.
func (r *rawFS) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	ino := r.nodes.get(h.NodeId)
	if ino == nil {
		return nil, fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, h)
	defer ctx.end()
	target, err := r.fs.Readlink(ctx, ino)
	if err != nil {
		return nil, r.status("readlink", h.NodeId, err)
	}
	return []byte(target), fuse.OK
}

// Link gives a file one more name.
func (r *rawFS) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, file := r.nodes.get(in.NodeId), r.nodes.get(in.Oldnodeid)
	if dir == nil || file == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	ino, st, err := r.fs.Link(ctx, file, dir, name)
	if err != nil {
		return r.status("link", in.NodeId, err)
	}
	r.entry(out, ino, &st, in.NodeId, name)
	return fuse.OK
}

// Unlink removes a name of a file.
func (r *rawFS) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	dir := r.nodes.get(h.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	return r.status("unlink", h.NodeId, r.fs.Unlink(r.ctx, dir, name))
}

// Rmdir removes an empty directory.
func (r *rawFS) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	dir := r.nodes.get(h.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	return r.status("rmdir", h.NodeId, r.fs.Rmdir(r.ctx, dir, name))
}

// Rename moves a name, with the flags of renameat2(2).
func (r *rawFS) Rename(cancel <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	dir, newDir := r.nodes.get(in.NodeId), r.nodes.get(in.Newdir)
	if dir == nil || newDir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	// The old RENAME request has no flags; go-fuse reads 0 there.
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	return r.status("rename", in.NodeId, r.fs.Rename(ctx, dir, name, newDir, newName, fs.RenameFlags(in.Flags)))
}
