package fusefs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/fs"
)

// openFlags returns what the kernel is told of a file opened with the flags of open(2): to keep its pages, unless somebody
// else has changed them, and to spare the FLUSH of a file that was only read.
func openFlags(flags uint32, file *fs.File) (out uint32) {
	if file.Unchanged() {
		out = fuse.FOPEN_KEEP_CACHE
	}
	if flags&syscall.O_ACCMODE == syscall.O_RDONLY {
		out |= fuse.FOPEN_NOFLUSH
	}
	return out
}

// Create makes a regular file and opens it.
func (r *rawFS) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	dir := r.nodes.get(in.NodeId)
	if dir == nil {
		return fuse.Status(syscall.ESTALE)
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	ino, file, st, err := r.fs.Create(ctx, dir, name, in.Mode, cred(&in.InHeader))
	if err != nil {
		if in.Flags&syscall.O_EXCL == 0 && errors.Is(err, fs.ErrExist) {
			// The kernel did not know of the file, and so has not checked who may open it. Upon ESTALE it asks again.
			return fuse.Status(syscall.ESTALE)
		}
		return r.status("create", in.NodeId, err)
	}
	out.Fh = r.handles.add(file)
	out.OpenFlags = openFlags(in.Flags, file)
	r.entry(&out.EntryOut, ino, &st, in.NodeId, name)
	return fuse.OK
}

// Open opens a regular file, and truncates it if asked to (ATOMIC_O_TRUNC).
func (r *rawFS) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ino := r.nodes.get(in.NodeId)
	if ino == nil {
		return fuse.Status(syscall.ESTALE)
	}
	changes := in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY || in.Flags&syscall.O_TRUNC != 0
	if changes && r.fs.ReadOnly() {
		return fuse.EROFS
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	file, err := r.fs.Open(ctx, ino)
	if errors.Is(err, fs.ErrStale) {
		r.pins.stale()
	}
	if err != nil {
		return r.status("open", in.NodeId, err)
	}
	if in.Flags&syscall.O_TRUNC != 0 {
		var size uint64
		if _, err := r.fs.SetAttr(r.ctx, ino, fs.SetAttr{Size: &size, KillPriv: in.Mode&fuse.OPEN_KILL_SUIDGID != 0}); err != nil {
			file.Close()
			return r.status("open", in.NodeId, err)
		}
	}
	out.Fh = r.handles.add(file)
	out.OpenFlags = openFlags(in.Flags, file)
	return fuse.OK
}

// Read reads from an open file; less than asked for only at its end.
func (r *rawFS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	file := r.handles.get(in.Fh)
	if file == nil {
		return nil, fuse.EBADF
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	n, err := file.ReadAt(ctx, buf, int64(in.Offset))
	if err != nil {
		return nil, r.status("read", in.NodeId, err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write writes to an open file. What was written before an error counts; the error then comes with the next write.
func (r *rawFS) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	file := r.handles.get(in.Fh)
	if file == nil {
		return 0, fuse.EBADF
	}
	ctx := r.caller(cancel, &in.InHeader)
	defer ctx.end()
	n, err := file.WriteAt(ctx, data, int64(in.Offset), in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0)
	if err != nil && n == 0 {
		return 0, r.status("write", in.NodeId, err)
	}
	return uint32(n), fuse.OK
}

// Flush answers close(2).
func (r *rawFS) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	file := r.handles.get(in.Fh)
	if file == nil {
		return fuse.EBADF
	}
	return r.status("flush", in.NodeId, file.Flush(r.ctx))
}

// Release ends a file handle after its last close(2) and munmap(2).
func (r *rawFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if file := r.handles.remove(in.Fh); file != nil {
		file.Close()
	}
}

// Fsync answers fsync(2) and fdatasync(2), which are the same: a file's size and map are metadata too.
func (r *rawFS) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	file := r.handles.get(in.Fh)
	if file == nil {
		return fuse.EBADF
	}
	return r.status("fsync", in.NodeId, file.Sync(r.ctx))
}

// Lseek answers lseek(2) with SEEK_DATA and SEEK_HOLE; the other kinds never leave the kernel.
func (r *rawFS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	const seekData, seekHole = 3, 4
	if r.writeback {
		// The kernel asks without writing back what it has collected, and would take new data for a hole. Upon ENOSYS
		// it calls everything data.
		return fuse.ENOSYS
	}
	file := r.handles.get(in.Fh)
	if file == nil {
		return fuse.EBADF
	}
	if in.Whence != seekData && in.Whence != seekHole {
		return fuse.EINVAL
	}
	off, err := file.Seek(r.ctx, int64(in.Offset), in.Whence == seekData)
	if err != nil {
		return r.status("lseek", in.NodeId, err)
	}
	out.Offset = uint64(off)
	return fuse.OK
}
