package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Where stores lie.
const (
	onDisk  = "disk"
	onTmpfs = "tmpfs"
)

// places are the directories in which everything happens.
type places struct {
	base    string // on the disk
	disk    string
	tmpfs   string
	mounted bool // tmpfs is a mount of this program's own
}

// newPlaces makes a directory below dir, and one on a tmpfs: as root a tmpfs of its own, else in /dev/shm.
func newPlaces(dir string) (_ *places, err error) {
	p := &places{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.base, err = os.MkdirTemp(dir, "envfs-bench."); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	p.disk = filepath.Join(p.base, onDisk)
	if err := os.Mkdir(p.disk, 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if os.Geteuid() != 0 {
		if p.tmpfs, err = os.MkdirTemp("/dev/shm", "envfs-bench."); err != nil {
			return nil, fmt.Errorf("make directory on a tmpfs: %w", err)
		}
		return p, nil
	}
	p.tmpfs = filepath.Join(p.base, onTmpfs)
	if err := os.Mkdir(p.tmpfs, 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if err := unix.Mount("envfs-bench", p.tmpfs, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	p.mounted = true
	return p, nil
}

// of returns the directory for a store's name.
func (p *places) of(store string) string {
	if store == onDisk {
		return p.disk
	}
	return p.tmpfs
}

// close removes all.
func (p *places) close() error {
	var errs []error
	switch {
	case p.mounted:
		if err := unix.Unmount(p.tmpfs, unix.MNT_DETACH); err != nil {
			// What lies on it must not be removed one by one: there might be a mount.
			return fmt.Errorf("unmount %s: %w", p.tmpfs, err)
		}
	case p.tmpfs != "":
		errs = append(errs, os.RemoveAll(p.tmpfs))
	}
	if p.base != "" {
		errs = append(errs, os.RemoveAll(p.base))
	}
	return errors.Join(errs...)
}
