package crash

import (
	"errors"
	"io/fs"
	"path"
	"syscall"

	"envfs/remote/cache"
	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

// disk is the file system of a machine that shares a vault: the directory of the state, and that of what is kept.
type disk struct{ *memfs.FS }

var _ cache.Disk = disk{}

// At implements cache.Disk.
func (d disk) At(at string) (dir.FS, error) {
	if parent := path.Dir(at); parent != "." {
		if err := d.Mkdir(parent); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	if err := d.Mkdir(at); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := d.SyncDir(path.Dir("/" + at)[1:]); err != nil {
		return nil, err
	}
	return &below{d.FS, at}, nil
}

// Leave implements cache.Disk.
func (disk) Leave(dir.FS) error { return nil }

// below is a directory of a file system.
type below struct {
	*memfs.FS
	at string
}

func (b *below) path(name string) string { return path.Join(b.at, name) }

func (b *below) Open(name string) (dir.File, error) { return b.FS.Open(b.path(name)) }

func (b *below) ReadFile(name string, limit int64) ([]byte, error) {
	return b.FS.ReadFile(b.path(name), limit)
}

func (b *below) Create(name string) (dir.File, error) { return b.FS.Create(b.path(name)) }

func (b *below) Mkdir(name string) error { return b.FS.Mkdir(b.path(name)) }

func (b *below) Rename(from, to string) error { return b.FS.Rename(b.path(from), b.path(to)) }

func (b *below) Link(from, to string) error { return b.FS.Link(b.path(from), b.path(to)) }

func (b *below) Remove(name string) error { return b.FS.Remove(b.path(name)) }

func (b *below) ReadDir(name string) ([]dir.Stat, error) { return b.FS.ReadDir(b.path(name)) }

func (b *below) Stat(name string) (dir.Stat, error) { return b.FS.Stat(b.path(name)) }

func (b *below) SyncDir(name string) error { return b.FS.SyncDir(b.path(name)) }

// setAside moves what was not published out of the way, as envfs sync --rescue does.
func (d disk) setAside() error {
	if err := d.Mkdir("aside"); err != nil {
		return err
	}
	for _, part := range []string{"state", "kept"} {
		if err := d.Rename(part, "aside/"+part); err != nil && !(part == "kept" && errors.Is(err, syscall.ENOENT)) {
			return err
		}
	}
	return nil
}
