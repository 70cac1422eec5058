package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Dir returns the directory of this user's sockets, made if it is missing: /run/envfs for root, else
// $XDG_RUNTIME_DIR/envfs, else envfs-UID in the directory for temporary files. It refuses one that is not this user's
// alone, as it might have been laid out by somebody else.
func Dir() (string, error) {
	uid := os.Getuid()
	dir := filepath.Join(os.TempDir(), "envfs-"+strconv.Itoa(uid))
	if run := os.Getenv("XDG_RUNTIME_DIR"); uid == 0 {
		dir = "/run/envfs"
	} else if filepath.IsAbs(run) {
		dir = filepath.Join(run, "envfs")
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make directory of sockets: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return "", fmt.Errorf("directory of sockets %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != uid || st.Mode&0o077 != 0 {
		return "", fmt.Errorf("directory of sockets %s: it must be a directory of this user's with mode 0700", dir)
	}
	return dir, nil
}
