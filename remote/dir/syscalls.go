package dir

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// retry calls fn until it is not interrupted by a signal.
func retry[T any](fn func() (T, error)) (T, error) {
	for {
		if v, err := fn(); err != unix.EINTR {
			return v, err
		}
	}
}

func retryErr(fn func() error) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

// control calls fn with f's descriptor, which stays open meanwhile.
func control(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return fs.ErrClosed
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = retryErr(func() error { return fn(int(fd)) }) }); err != nil {
		return fs.ErrClosed // its only reason
	}
	return inner
}

// errno strips what package os puts around a system's error number: the store names objects itself.
func errno(err error) error {
	var number unix.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}

// openAt opens name below the directory fd without following any symbolic link.
func openAt(fd int, name string, flags int, mode uint32) (int, error) {
	if name == "" {
		name = "."
	}
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for range 8 {
		got, err := unix.Openat2(fd, name, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN: // EAGAIN: something was renamed meanwhile
			continue
		case unix.ENOSYS, unix.EPERM: // kernels before 5.6, and sandboxes that do not know the call
			return walkAt(fd, name, flags, mode)
		}
		return got, err
	}
	return walkAt(fd, name, flags, mode)
}

// walkAt is openAt, one component at a time.
func walkAt(fd int, name string, flags int, mode uint32) (int, error) {
	at := fd
	for {
		first, rest, more := strings.Cut(name, "/")
		f, m := unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(0)
		if !more {
			f, m = flags, mode
		}
		next, err := retry(func() (int, error) { return unix.Openat(at, first, f, m) })
		if at != fd {
			_ = unix.Close(at) // O_PATH: nothing to lose
		}
		if err != nil || !more {
			return next, err
		}
		at, name = next, rest
	}
}

// statAt describes name in the directory fd; with an empty name, fd itself.
func statAt(fd int, name string) (Stat, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var sx unix.Statx_t
	if err := retryErr(func() error {
		return unix.Statx(fd, name, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &sx)
	}); err != nil {
		return Stat{}, err
	}
	st := Stat{
		Mode:  fs.FileMode(sx.Mode & 0o777),
		Size:  int64(sx.Size),
		Dev:   unix.Mkdev(sx.Dev_major, sx.Dev_minor),
		Inode: sx.Ino,
	}
	if sx.Mask&unix.STATX_BTIME != 0 {
		st.Birth = time.Unix(sx.Btime.Sec, int64(sx.Btime.Nsec))
	}
	switch sx.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		st.Mode |= fs.ModeDir
	case unix.S_IFLNK:
		st.Mode |= fs.ModeSymlink
	default:
		st.Mode |= fs.ModeIrregular
	}
	return st, nil
}
