package fusefs

import (
	"context"
	"log/slog"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/fs"
)

// rawFS answers the kernel's requests; its methods are those of fuse.RawFileSystem. Requests that it does not have
// are answered ENOSYS by the embedded default, upon which the kernel does without them: OPENDIR (listing is stateless,
// NO_OPENDIR_SUPPORT), ACCESS (default_permissions), locks (there is only this mount), COPY_FILE_RANGE (the kernel
// copies by reading and writing), FALLOCATE and TMPFILE (EOPNOTSUPP for whoever asks).
type rawFS struct {
	fuse.RawFileSystem
	fs      *fs.FS
	log     *slog.Logger
	nodes   *nodes
	handles handles
	pins    pins
	kernel  *fuse.Server
	ctx     context.Context // of requests that are not to be broken off: see the package's comment on interruption

	writeback bool
	follows   bool          // somebody else writes
	believe   time.Duration // how long the kernel may believe what it was told of names and attributes
}

var _ fuse.RawFileSystem = (*rawFS)(nil)

func newRawFS(f *fs.FS, log *slog.Logger, maxNodes int) *rawFS {
	return &rawFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), fs: f, log: log, ctx: context.Background(),
		nodes: newNodes(f.Root(), f.Forget, maxNodes), believe: cacheTime}
}

// Init is called once, before the first request.
func (r *rawFS) Init(s *fuse.Server) {
	r.kernel = s
	if !s.KernelSettings().SupportsNotify(fuse.NOTIFY_PRUNE) { // Linux before 6.18
		r.nodes.keepNames = true
	}
}

// String names the file system's type.
func (r *rawFS) String() string { return "envfs" }

// release gives back what the kernel still held when it was unmounted.
func (r *rawFS) release() {
	r.pins.release()
	r.handles.release()
	r.nodes.release()
}

func cred(h *fuse.InHeader) fs.Cred { return fs.Cred{UID: h.Uid, GID: h.Gid} }

// entry answers a request that found or made a name in the directory parent; ino's reference becomes the kernel's.
func (r *rawFS) entry(out *fuse.EntryOut, ino *fs.Inode, st *fs.Stat, parent uint64, name string) {
	setEntry(out, r.nodes.bind(ino, parent, name), st, r.believe)
}

// Forget drops lookups of a node.
func (r *rawFS) Forget(node, lookups uint64) { r.nodes.forget(node, lookups) }

// Lookup finds a name. That there is none is remembered by the kernel as well.
func (r *rawFS) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir := r.nodes.get(h.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, h)
	defer ctx.end()
	ino, st, err := r.find(ctx, dir, name)
	if err != nil {
		code := r.status("lookup", h.NodeId, err)
		if code == fuse.ENOENT {
			out.SetEntryTimeout(r.believe)
			return fuse.OK
		}
		return code
	}
	r.entry(out, ino, &st, h.NodeId, name)
	return fuse.OK
}

// GetAttr answers stat(2).
func (r *rawFS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	ino := r.nodes.get(in.NodeId)
	if ino == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	st, err := r.fs.GetAttr(ctx, ino)
	if err != nil {
		return r.status("getattr", in.NodeId, err)
	}
	out.SetTimeout(r.believe)
	setAttr(&out.Attr, &st)
	return fuse.OK
}

// Statx answers statx(2) where the time of creation is asked for.
func (r *rawFS) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	ino := r.nodes.get(in.NodeId)
	if ino == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	st, err := r.fs.GetAttr(ctx, ino)
	if err != nil {
		return r.status("statx", in.NodeId, err)
	}
	out.SetTimeout(r.believe)
	setStatx(&out.Statx, &st)
	return fuse.OK
}

// SetAttr answers chmod, chown, truncate and utimensat.
func (r *rawFS) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	ino := r.nodes.get(in.NodeId)
	if ino == nil {
		return fuse.Status(syscall.ESTALE)
	}
	var st fs.Stat
	var err error
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	switch change, any := attrChange(in, ino.Type()); {
	case !any:
		st, err = r.fs.GetAttr(ctx, ino)
	case change.Size != nil: // and perhaps more, in a second step
		st, err = r.fs.SetAttr(r.ctx, ino, change)
	default:
		st, err = r.fs.SetAttr(ctx, ino, change)
	}
	if err != nil {
		return r.status("setattr", in.NodeId, err)
	}
	out.SetTimeout(r.believe)
	setAttr(&out.Attr, &st)
	return fuse.OK
}

// StatFs answers statfs(2).
func (r *rawFS) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s, err := r.fs.StatFS(r.ctx)
	if err != nil {
		return r.status("statfs", in.NodeId, err)
	}
	*out = fuse.StatfsOut{Blocks: s.Blocks, Bfree: s.Free, Bavail: s.Avail, Files: s.Files, Ffree: s.FreeFiles,
		Bsize: s.BlockSize, Frsize: s.BlockSize, NameLen: s.MaxName}
	return fuse.OK
}

// Ioctl refuses what it does not know as a disk's file system does.
func (r *rawFS) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
