package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// GetXAttr copies an extended attribute to dest and returns its length; an empty dest asks for the length only.
func (r *rawFS) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	ino := r.nodes.get(h.NodeId)
	if ino == nil {
		return 0, fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, h)
	defer ctx.end()
	value, err := r.fs.GetXattr(ctx, ino, name)
	if err != nil {
		return 0, r.status("getxattr", h.NodeId, err)
	}
	if len(dest) > 0 && len(value) > len(dest) {
		return uint32(len(value)), fuse.ERANGE
	}
	copy(dest, value)
	return uint32(len(value)), fuse.OK
}

// ListXAttr copies the names of all extended attributes to dest, each with a zero byte behind it, and returns their
// length; an empty dest asks for the length only.
func (r *rawFS) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	ino := r.nodes.get(h.NodeId)
	if ino == nil {
		return 0, fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, h)
	defer ctx.end()
	names, err := r.fs.ListXattr(ctx, ino)
	if err != nil {
		return 0, r.status("listxattr", h.NodeId, err)
	}
	size := 0
	for _, name := range names {
		size += len(name) + 1
	}
	switch {
	case len(dest) == 0:
		return uint32(size), fuse.OK
	case size > len(dest):
		return uint32(size), fuse.ERANGE
	}
	for _, name := range names {
		n := copy(dest, name)
		dest[n] = 0
		dest = dest[n+1:]
	}
	return uint32(size), fuse.OK
}

// SetXAttr sets an extended attribute; in.Flags are those of setxattr(2).
func (r *rawFS) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	ino := r.nodes.get(in.NodeId)
	if ino == nil {
		return fuse.Status(syscall.ESTALE)
	}
	// The request's buffer is used again after this call, so the value is copied.
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	return r.status("setxattr", in.NodeId, r.fs.SetXattr(ctx, ino, name, append([]byte(nil), value...), in.Flags))
}

// RemoveXAttr removes an extended attribute.
func (r *rawFS) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	ino := r.nodes.get(h.NodeId)
	if ino == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, h)
	defer ctx.end()
	return r.status("removexattr", h.NodeId, r.fs.RemoveXattr(ctx, ino, name))
}
