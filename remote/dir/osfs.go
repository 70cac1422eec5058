package dir

import (
	"fmt"
	"io"
	"os"
	"path"
	"unsafe"

	"golang.org/x/sys/unix"

	"envfs/remote"
)

// OSFS is the real file system below one directory, which it holds open: if the directory is moved the work goes on
// in it, if it is removed everything fails with ENOENT, whatever is put in its place.
type OSFS struct {
	root      *os.File
	canSyncFS bool
}

var _ FS = (*OSFS)(nil)

// OpenOS opens the directory at path. Close it after use.
func OpenOS(path string) (*OSFS, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", path, err)
	}
	o := &OSFS{root: os.NewFile(uintptr(fd), path)}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		_ = o.root.Close() // the first error tells more
		return nil, fmt.Errorf("statfs %s: %w", path, err)
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		o.canSyncFS = true
	}
	return o, nil
}

// open opens name below the root.
func (o *OSFS) open(name string, flags int, mode uint32) (fd int, err error) {
	err = control(o.root, func(root int) error {
		fd, err = openAt(root, name, flags, mode)
		return err
	})
	return fd, err
}

// at calls fn with a descriptor of the directory that holds name, and name's last component.
func (o *OSFS) at(name string, fn func(dir int, base string) error) error {
	parent, base := path.Split(name)
	if parent == "" {
		return control(o.root, func(fd int) error { return fn(fd, base) })
	}
	fd, err := o.open(path.Clean(parent), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) // O_PATH: nothing to lose
	return retryErr(func() error { return fn(fd, base) })
}

// Open implements FS.
func (o *OSFS) Open(name string) (File, error) {
	// O_NONBLOCK: a FIFO that lies in an object's place must not stop us.
	fd, err := o.open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := statAt(fd, "")
	if err == nil && !st.Mode.IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		_ = unix.Close(fd) // read-only
		return nil, err
	}
	return newOSFile(fd, name), nil
}

// ReadFile implements FS. It is what opening a small file costs, so it takes no more system calls than it must.
func (o *OSFS) ReadFile(name string, limit int64) ([]byte, error) {
	fd, err := o.open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) // read-only
	var st unix.Stat_t
	if err := retryErr(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, errNotRegular
	case st.Size > limit:
		return nil, unix.EFBIG
	}
	data := make([]byte, st.Size)
	for got := 0; got < len(data); {
		n := 0
		err := retryErr(func() (err error) {
			n, err = unix.Pread(fd, data[got:], int64(got))
			return err
		})
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, io.ErrUnexpectedEOF // it was cut meanwhile
		}
		got += n
	}
	return data, nil
}

// Create implements FS.
func (o *OSFS) Create(name string) (File, error) {
	fd, err := o.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return newOSFile(fd, name), nil
}

// Mkdir implements FS.
func (o *OSFS) Mkdir(name string) error {
	return o.at(name, func(dir int, base string) error { return unix.Mkdirat(dir, base, 0o700) })
}

// Rename implements FS.
func (o *OSFS) Rename(oldname, newname string) error {
	return o.at2(oldname, newname, unix.Renameat)
}

// Link implements FS.
func (o *OSFS) Link(oldname, newname string) error {
	err := o.at2(oldname, newname, func(odir int, obase string, ndir int, nbase string) error {
		return unix.Linkat(odir, obase, ndir, nbase, 0)
	})
	switch err {
	case unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS, unix.EMLINK: // no hard links here
		return o.at2(oldname, newname, func(odir int, obase string, ndir int, nbase string) error {
			if st, err := statAt(odir, obase); err == nil && st.Mode.IsDir() {
				return unix.EPERM
			}
			return unix.Renameat2(odir, obase, ndir, nbase, unix.RENAME_NOREPLACE)
		})
	}
	return err
}

// at2 is at for two names.
func (o *OSFS) at2(oldname, newname string, fn func(odir int, obase string, ndir int, nbase string) error) error {
	return o.at(oldname, func(odir int, obase string) error {
		return o.at(newname, func(ndir int, nbase string) error { return fn(odir, obase, ndir, nbase) })
	})
}

// Remove implements FS.
func (o *OSFS) Remove(name string) error {
	return o.at(name, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if err == unix.EISDIR {
			return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
		}
		return err
	})
}

// ReadDir implements FS.
func (o *OSFS) ReadDir(name string) ([]Stat, error) {
	fd, err := o.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(fd), name)
	defer d.Close() // read-only
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, errno(err)
	}
	list := make([]Stat, 0, len(names))
	err = control(d, func(fd int) error {
		for _, name := range names[len(list):] {
			st, err := statAt(fd, name)
			if err == unix.ENOENT { // removed meanwhile
				st, err = Stat{}, nil
			}
			if err != nil {
				return err
			}
			st.Name = name
			list = append(list, st)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	present := list[:0]
	for _, st := range list {
		if st.Inode != 0 || st.Mode != 0 {
			present = append(present, st)
		}
	}
	return present, nil
}

// Stat implements FS.
func (o *OSFS) Stat(name string) (st Stat, err error) {
	err = o.at(name, func(dir int, base string) error {
		st, err = statAt(dir, base)
		return err
	})
	return st, err
}

// SyncDir implements FS.
func (o *OSFS) SyncDir(name string) error {
	fd, err := o.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = retryErr(func() error { return unix.Fsync(fd) })
	_ = unix.Close(fd) // read-only
	if err == unix.EINVAL {
		return nil // a file system whose names need no fsync
	}
	return err
}

// CanSyncFS implements FS.
func (o *OSFS) CanSyncFS() bool { return o.canSyncFS }

// SyncFS implements FS. It reports what failed to be written since the root was opened, as it always uses that one descriptor.
func (o *OSFS) SyncFS() error { return control(o.root, unix.Syncfs) }

// Space implements FS.
func (o *OSFS) Space() (remote.Space, error) {
	var st unix.Statfs_t
	if err := control(o.root, func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil {
		return remote.Space{}, err
	}
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return remote.Space{
		Total: st.Blocks * unit, Free: st.Bfree * unit, Available: st.Bavail * unit,
		Files: st.Files, FreeFiles: st.Ffree,
	}, nil
}

// fsIocGetFSUUID is FS_IOC_GETFSUUID, _IOR(0x15, 0, struct fsuuid2), Linux 6.9.
const fsIocGetFSUUID = 0x80111500

// UUID implements FS.
func (o *OSFS) UUID() (id []byte, err error) {
	err = control(o.root, func(fd int) error {
		var u struct {
			n    uint8
			uuid [16]byte
		}
		_, _, number := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocGetFSUUID, uintptr(unsafe.Pointer(&u)))
		if number == 0 && u.n > 0 && int(u.n) <= len(u.uuid) {
			id = append([]byte{'u'}, u.uuid[:u.n]...)
			return nil
		}
		var st unix.Statfs_t
		if err := unix.Fstatfs(fd, &st); err != nil {
			return err
		}
		id = []byte{'f'}
		for _, v := range st.Fsid.Val {
			id = append(id, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
		}
		return nil
	})
	return id, err
}

// Lock implements FS.
func (o *OSFS) Lock() (io.Closer, error) {
	// A descriptor of its own: a lock belongs to the open file description, so two stores in one process exclude
	// each other too.
	fd, err := o.open("", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "lock")
	if err := control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		_ = f.Close() // read-only
		return nil, err
	}
	return f, nil
}

// Close releases the directory. What was opened below it stays open.
func (o *OSFS) Close() error { return errno(o.root.Close()) }
