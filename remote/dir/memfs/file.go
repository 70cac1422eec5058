package memfs

import (
	"bytes"
	"io/fs"
	"syscall"

	"envfs/remote/dir"
)

// file is an open file.
type file struct {
	fs       *FS
	path     string
	n        *inode
	writable bool
	closed   bool
}

// enter locks the file system for a call on an open file.
func (f *file) enter(writing bool) error {
	f.fs.mu.Lock()
	switch {
	case f.closed:
		f.fs.mu.Unlock()
		return fs.ErrClosed
	case writing && !f.writable:
		f.fs.mu.Unlock()
		return syscall.EBADF
	}
	return nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.enter(false); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if err := f.fs.ask(Op{Kind: OpRead, Path: f.path, Off: off}); err != nil {
		return 0, err
	}
	return f.n.data.readAt(p, off)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.enter(true); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if len(p) == 0 {
		return 0, nil
	}
	op := Op{Kind: OpWrite, Path: f.path, Off: off, Data: p, ino: f.n.id}
	if err := f.fs.ask(op); err != nil {
		return 0, err
	}
	n := f.room(len(p), off)
	if n > 0 {
		op.Data = bytes.Clone(p[:n])
		f.fs.record(op)
		f.fs.used += max(0, off+int64(n)-f.n.held())
		f.n.data.write(off, op.Data)
	}
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// room returns how many of n bytes at off fit.
func (f *file) room(n int, off int64) int {
	if f.fs.capacity == 0 {
		return n
	}
	end := f.n.held() + max(0, f.fs.capacity-f.fs.used)
	return int(min(int64(n), max(0, end-off)))
}

func (f *file) Truncate(size int64) error {
	if err := f.enter(true); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if size < 0 {
		return syscall.EINVAL
	}
	if err := f.fs.do(Op{Kind: OpTruncate, Path: f.path, Off: size, ino: f.n.id}); err != nil {
		return err
	}
	f.fs.used += size - f.n.held()
	f.n.reserved = 0
	f.n.data.truncate(size)
	return nil
}

func (f *file) Allocate(size int64) error { return f.Truncate(size) }

func (f *file) Preallocate(size int64) error {
	if err := f.enter(true); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if err := f.fs.ask(Op{Kind: OpPreallocate, Path: f.path, Off: size}); err != nil {
		return err
	}
	more := size - f.n.held()
	if f.fs.capacity > 0 && more > f.fs.capacity-f.fs.used {
		return syscall.ENOSPC
	}
	if more > 0 {
		f.fs.used += more
		f.n.reserved = size
	}
	return nil
}

func (f *file) Stat() (dir.Stat, error) {
	if err := f.enter(false); err != nil {
		return dir.Stat{}, err
	}
	defer f.fs.mu.Unlock()
	return f.n.stat(), nil
}

func (f *file) Sync() error {
	if err := f.enter(false); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	return f.fs.sync(Op{Kind: OpSync, Path: f.path, ino: f.n.id})
}

func (f *file) Datasync() error { return f.Sync() }

func (f *file) Writeback(off, n int64) {}

// DropCache does nothing: what is read is what was written, durable or not.
func (f *file) DropCache() error { return nil }

func (f *file) Close() error {
	if err := f.enter(false); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	f.closed = true
	f.n.opens--
	f.fs.free(f.n)
	return nil
}
