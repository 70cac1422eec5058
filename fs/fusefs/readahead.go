package fusefs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// readAheadKiB is how far the kernel reads ahead of a sequential reader. A FUSE server can only lower the default of
// 128; root may raise it from outside.
const readAheadKiB = 1024

// raiseReadAhead sets the read-ahead of the mount.
func raiseReadAhead(mountpoint string) error {
	var st unix.Stat_t
	if err := unix.Stat(mountpoint, &st); err != nil {
		return fmt.Errorf("stat %s: %w", mountpoint, err)
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d\n", readAheadKiB)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
