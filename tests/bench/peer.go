package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// peer is one way to keep files below a directory.
type peer interface {
	// mount shows the files at root and returns when they can be used.
	mount() error

	// unmount returns when the daemon has ended, and with it all that it does by itself.
	unmount() error

	root() string

	// pid is the daemon's while mounted, 0 if there is none.
	pid() int

	// discard ends and unmounts whatever is left, without regard for the files.
	discard() error
}

// kind is a peer that can be made.
type kind struct {
	name   string // in flags
	title  string // in the table
	keeps  bool   // it keeps what is written
	create func(t *tools, dir string) (peer, error)
}

// tools are what peers are made with.
type tools struct {
	envfs string // the command
	self  string // this program
}

func kinds() []kind {
	return []kind{
		{"bare", "bare", true, newBare},
		{gocryptfsName, gocryptfsName, true, newGocryptfs},
		{"envfs", "envfs", true, newEnvfs()},
		{"envfs-writeback", "envfs --writeback", true, newEnvfs("--writeback")},
		{"empty", "empty", false, newEmpty()},
		{"empty-writeback", "empty, writeback", false, newEmpty(writebackFlag)},
	}
}

func kindOf(name string) (kind, bool) {
	all := kinds()
	i := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return all[i], true
}

// bare is a plain directory.
type bare struct{ dir string }

func newBare(_ *tools, dir string) (peer, error) {
	b := bare{filepath.Join(dir, "files")}
	return b, os.Mkdir(b.dir, 0o755)
}

func (bare) mount() error   { return nil }
func (bare) unmount() error { return nil }
func (b bare) root() string { return b.dir }
func (bare) pid() int       { return 0 }
func (bare) discard() error { return nil }

// fuseMagic is the type that statfs(2) tells of a FUSE mount.
const fuseMagic = 0x65735546

// showsFUSE reports whether a FUSE file system is mounted at point, dead or alive.
func showsFUSE(point string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(point, &st)
	return err == nil && st.Type == fuseMagic || errors.Is(err, unix.ENOTCONN)
}

// unmountFUSE takes the mount at point away; if lazy, also one that is in use. It may return before the daemon has ended.
func unmountFUSE(point string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		if err := unix.Unmount(point, flags); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
		return nil
	}
	args := []string{"-u", "--", point}
	if lazy {
		args = append([]string{"-z"}, args...)
	}
	if out, err := exec.Command("fusermount3", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("unmount %s: %w: %s", point, err, out)
	}
	return nil
}

// until waits for a condition and reports whether it came true in time.
func until(within time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(within); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
