package mountpoint

import (
	"fmt"
	"os"
)

// bareMode keeps everybody from writing plaintext into the directory while nothing is mounted on it.
const bareMode = 0o500

// Bare is the directory under a mount. It must be opened before the mount hides it.
type Bare struct {
	dir  *os.File
	mode os.FileMode
}

// OpenBare opens the directory at path and lets its owner mount on it: fusermount3 asks for write permission.
func OpenBare(path string) (*Bare, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open mount point: %w", err)
	}
	st, err := dir.Stat()
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("open mount point: %w", err)
	}
	b := &Bare{dir: dir, mode: st.Mode().Perm()}
	if os.Getuid() != 0 && b.mode&0o200 == 0 {
		if err := dir.Chmod(b.mode | 0o700); err != nil {
			dir.Close()
			return nil, fmt.Errorf("open mount point: %w", err)
		}
	}
	return b, nil
}

// Protect leaves the bare directory with mode 0500, now that it is mounted on. An error is no reason to take the mount
// away: the directory may be another user's.
func (b *Bare) Protect() error {
	defer b.dir.Close()
	if err := b.dir.Chmod(bareMode); err != nil {
		return fmt.Errorf("protect bare mount point: %w", err)
	}
	return nil
}

// Restore gives the directory back as it was, because mounting failed.
func (b *Bare) Restore() {
	b.dir.Chmod(b.mode)
	b.dir.Close()
}
