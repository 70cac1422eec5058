package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// fuseMagic is the type that statfs(2) tells of a FUSE mount.
const fuseMagic = 0x65735546

// ShowsFUSE reports whether a FUSE file system is mounted at point, dead or alive.
func ShowsFUSE(point string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(point, &st)
	return err == nil && st.Type == fuseMagic || errors.Is(err, unix.ENOTCONN)
}

// UnmountFUSE takes the mount at point away; if lazy, also one that is in use. It may return before the daemon has ended.
func UnmountFUSE(point string, lazy bool) error {
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

// Until waits for a condition and reports whether it came true in time.
func Until(within time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(within); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
