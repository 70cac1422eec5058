package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"envfs/remote/dir"
)

// Disk is where the state and what is kept lie, in directories that are named as the machine names them.
type Disk interface {
	// At returns a directory, which is made if it is missing, durably; those above it may be made, too.
	At(path string) (dir.FS, error)

	// Leave ends the use of what At has returned.
	Leave(at dir.FS) error

	// Rename moves a file to another of these directories.
	Rename(from, to string) error
}

func (o *Options) disk() Disk {
	if o.Disk == nil {
		return machine{}
	}
	return o.Disk
}

// machine is the Disk that this machine has.
type machine struct{}

func (machine) At(path string) (dir.FS, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	above, err := dir.OpenOS(filepath.Dir(path))
	if err == nil {
		err = errors.Join(above.SyncDir(""), above.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	return dir.OpenOS(path)
}

func (machine) Leave(at dir.FS) error { return at.(*dir.OSFS).Close() }

func (machine) Rename(from, to string) error { return os.Rename(from, to) }

// openState opens the directory of the state.
func (o *Options) openState() (*dir.Store, error) {
	if o.Disk != nil {
		files, err := o.Disk.At(o.State)
		if err != nil {
			return nil, err
		}
		return dir.Open(o.State, dir.Options{FS: files})
	}
	if err := os.MkdirAll(filepath.Dir(o.State), 0o700); err != nil {
		return nil, fmt.Errorf("open state %s: %w", o.State, err)
	}
	return dir.Create(o.State, dir.Options{})
}
