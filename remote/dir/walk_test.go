package dir

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWalkIsOpen: what stands in for openat2(2) on old kernels opens, and refuses, the same.
func TestWalkIsOpen(t *testing.T) {
	path := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(path, "a/b"), 0o700))
	must(os.WriteFile(filepath.Join(path, "a/b/file"), []byte("x"), 0o600))
	must(os.WriteFile(filepath.Join(path, "file"), []byte("x"), 0o600))
	must(os.Symlink("a", filepath.Join(path, "link")))
	must(os.Symlink("file", filepath.Join(path, "filelink")))
	root, err := os.Open(path)
	must(err)
	defer root.Close()
	for _, name := range []string{
		"file", "a/b/file", "a/b", "a/no", "no/file", "file/x", "link/b/file", "link", "filelink", "a/b/file/x",
	} {
		for _, flags := range []int{unix.O_RDONLY, unix.O_RDONLY | unix.O_DIRECTORY, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL} {
			var mode uint32
			if flags&unix.O_CREAT != 0 {
				mode = 0o600 // openat2 refuses it otherwise
			}
			one, openErr := openAt(int(root.Fd()), name, flags, mode)
			if openErr == nil {
				must(unix.Close(one))
			}
			if openErr == nil && flags&unix.O_CREAT != 0 {
				must(os.Remove(filepath.Join(path, name)))
			}
			two, walkErr := walkAt(int(root.Fd()), name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, mode)
			if walkErr == nil {
				must(unix.Close(two))
			}
			if walkErr == nil && flags&unix.O_CREAT != 0 {
				must(os.Remove(filepath.Join(path, name)))
			}
			if (openErr == nil) != (walkErr == nil) {
				t.Errorf("%s with flags %#x: %v, step by step: %v", name, flags, openErr, walkErr)
			}
		}
	}
}
