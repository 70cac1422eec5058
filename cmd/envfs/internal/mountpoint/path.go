package mountpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Why a directory cannot become a mount point.
var (
	ErrMissing     = errors.New("mount point does not exist")
	ErrNotDir      = errors.New("mount point is not a directory")
	ErrNotEmpty    = errors.New("mount point is not empty")
	ErrMounted     = errors.New("something is mounted there already")
	ErrDeadOther   = errors.New("a dead mount of another vault lies there")
	ErrInsideStore = errors.New("mount point lies inside the store")
	ErrStoreInside = errors.New("store lies inside the mount point")
)

// Resolve returns the absolute path of a mount point without symbolic links, also of one whose daemon is gone.
func Resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err == nil {
		return real, nil
	}
	if !errors.Is(err, unix.ENOTCONN) {
		return "", err
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(parent, filepath.Base(abs))
	}
	if target, err := os.Readlink(abs); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(abs), target)
		}
		return Resolve(target)
	}
	return abs, nil
}

// Check finds out whether path may become the mount point of the vault in store, both as [Resolve] returns them. A dead
// mount of the same store at that place is reported as dead: it must be detached first.
func Check(path, store string) (dead bool, err error) {
	if within(path, store) {
		return false, fmt.Errorf("%s: %w", path, ErrInsideStore)
	}
	if within(store, path) {
		return false, fmt.Errorf("%s: %w", path, ErrStoreInside)
	}
	m, mounted, err := At(path)
	if err != nil {
		return false, err
	}
	if mounted && m.Type == FSType && m.Dead() {
		if m.Source != store {
			return false, fmt.Errorf("%s: %w (%s)", path, ErrDeadOther, m.Source)
		}
		return true, nil
	}
	if mounted && m.Type == FSType {
		return false, fmt.Errorf("%s: %w (%s)", path, ErrMounted, m.Source)
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, fmt.Errorf("%s: %w", path, ErrMissing)
	case err != nil:
		return false, err
	case !st.IsDir():
		return false, fmt.Errorf("%s: %w", path, ErrNotDir)
	}
	names, err := os.ReadDir(path)
	if err != nil {
		return false, err
	}
	if len(names) > 0 {
		return false, fmt.Errorf("%s: %w", path, ErrNotEmpty)
	}
	return false, nil
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
