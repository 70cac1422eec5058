package mountpoint

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Why a mount cannot be taken away or made.
var (
	ErrBusy         = errors.New("it is in use")
	ErrNoFusermount = errors.New("fusermount3 is not installed")
	ErrNoDevice     = errors.New("/dev/fuse cannot be opened")
	ErrAllowOther   = errors.New("--allow-other is not allowed to plain users here")
)

// Unmount takes the mount at path away, or returns ErrBusy.
func Unmount(path string) error { return unmount(path, false) }

// Detach takes the mount at path out of the tree now; it ends when the last file in it is closed.
func Detach(path string) error { return unmount(path, true) }

func unmount(path string, lazy bool) error {
	var err error
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		err = unix.Unmount(path, flags)
	} else {
		err = fusermount(path, lazy)
	}
	if errors.Is(err, unix.EBUSY) {
		err = ErrBusy
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// fusermount unmounts as a plain user.
func fusermount(path string, lazy bool) error {
	bin, err := exec.LookPath("fusermount3")
	if err != nil {
		return ErrNoFusermount
	}
	args := []string{"-u", "-q"}
	if lazy {
		args = append(args, "-z")
	}
	out, err := exec.Command(bin, append(args, "--", path)...).CombinedOutput()
	if err == nil {
		return nil
	}
	// With -q it says nothing when the mount is busy.
	if m, ok, terr := At(path); terr == nil && ok && m.Type == FSType && len(bytes.TrimSpace(out)) == 0 {
		return ErrBusy
	}
	return fmt.Errorf("fusermount3: %w: %s", err, bytes.TrimSpace(out))
}

// CanMount finds out whether this user can mount at all.
func CanMount(allowOther bool) error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoDevice, errors.Unwrap(err))
	}
	f.Close()
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return ErrNoFusermount
	}
	if allowOther && !userAllowOther() {
		return ErrAllowOther
	}
	return nil
}

// userAllowOther reports whether fuse.conf(5) lets plain users let other users in.
func userAllowOther() bool {
	conf, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(conf) {
		if string(bytes.TrimSpace(line)) == "user_allow_other" {
			return true
		}
	}
	return false
}
