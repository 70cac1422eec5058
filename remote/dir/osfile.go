package dir

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// osFile is an open file of the real file system.
type osFile struct{ f *os.File }

func newOSFile(fd int, name string) *osFile { return &osFile{f: os.NewFile(uintptr(fd), name)} }

func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(p, off)
	if err == io.EOF {
		return n, err
	}
	return n, errno(err)
}

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, errno(err)
}

func (f *osFile) Truncate(size int64) error { return errno(f.f.Truncate(size)) }

func (f *osFile) Allocate(size int64) error {
	return control(f.f, func(fd int) error { return unix.Fallocate(fd, 0, 0, size) })
}

func (f *osFile) Preallocate(size int64) error {
	return control(f.f, func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, size) })
}

func (f *osFile) Stat() (st Stat, err error) {
	err = control(f.f, func(fd int) error {
		st, err = statAt(fd, "")
		return err
	})
	return st, err
}

func (f *osFile) Sync() error     { return control(f.f, unix.Fsync) }
func (f *osFile) Datasync() error { return control(f.f, unix.Fdatasync) }

func (f *osFile) Writeback(off, n int64) {
	_ = control(f.f, func(fd int) error { // a hint only
		return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}

func (f *osFile) DropCache() error {
	return control(f.f, func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
}

func (f *osFile) Close() error { return errno(f.f.Close()) }
