// Package posix tests what POSIX and Linux promise of a file system, on a mounted vault.
package posix

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"

	"envfs/fs/fusefs"
	"envfs/tests/mountpoint"
)

// outside are the cases of go-fuse's suite that are not run, and what is tested instead.
var outside = map[string]struct {
	reason  string
	instead func(t *testing.T, dir string)
}{
	"Fallocate":           {"there is no fallocate yet", fallocateFails(0)},
	"FallocateKeepSize":   {"there is no fallocate yet", fallocateFails(unix.FALLOC_FL_KEEP_SIZE)},
	"Tmpfile":             {"there is no O_TMPFILE yet", tmpfileFails},
	"FcntlFlockLocksFile": {"it expects that a process's POSIX locks keep itself out, which they never do", locksKeepOthersOut},
}

// skips are cases that skip themselves where a file system lacks something: here that is a failure.
func noSkip(t *testing.T, name string, f func(*testing.T, string), dir string) {
	t.Run(name, func(t *testing.T) {
		defer func() {
			if t.Skipped() {
				t.Error("the case skipped itself")
			}
		}()
		f(t, dir)
	})
}

func TestPosix(t *testing.T) {
	for _, mode := range []struct {
		name string
		fuse fusefs.Options
	}{
		{"writethrough", fusefs.Options{}},
		{"writeback", fusefs.Options{Writeback: true}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			m := mountpoint.NewVault(t).Mount(t, mountpoint.Options{FUSE: mode.fuse})
			for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
				dir := filepath.Join(m.Dir, name)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if o, ok := outside[name]; ok {
					noSkip(t, name+": "+o.reason, o.instead, dir)
				} else {
					noSkip(t, name, posixtest.All[name], dir)
				}
			}
			m.Unmount(t)
		})
	}
}

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func wantErrno(t *testing.T, what string, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func fallocateFails(mode uint32) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		f := create(t, filepath.Join(dir, "file"))
		wantErrno(t, "fallocate", unix.Fallocate(int(f.Fd()), mode, 0, 4096), unix.EOPNOTSUPP)
		if st, err := f.Stat(); err != nil || st.Size() != 0 {
			t.Errorf("after a refused fallocate: %v, %v", st.Size(), err)
		}
	}
}

func tmpfileFails(t *testing.T, dir string) {
	_, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	wantErrno(t, "open with O_TMPFILE", err, unix.EOPNOTSUPP)
}

func locksKeepOthersOut(t *testing.T, dir string) {
	name := filepath.Join(dir, "file")
	a, b := create(t, name), create(t, name)
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(a.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	lock = unix.Flock_t{Type: unix.F_RDLCK}
	wantErrno(t, "a second lock", unix.FcntlFlock(b.Fd(), unix.F_OFD_SETLK, &lock), unix.EAGAIN)
	if err := unix.Flock(int(a.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	wantErrno(t, "a second flock", unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
	a.Close()
	if err := unix.FcntlFlock(b.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Errorf("lock after the first was released: %v", err)
	}
	if err := unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("flock after the first was released: %v", err)
	}
}

// What is refused is refused with the errno that programs understand, and changes nothing.
func TestRefused(t *testing.T) {
	m := mountpoint.NewVault(t).Mount(t, mountpoint.Options{})
	at := func(name string) string { return filepath.Join(m.Dir, name) }
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(at(name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	exchange := unix.Renameat2(unix.AT_FDCWD, at("a"), unix.AT_FDCWD, at("b"), unix.RENAME_EXCHANGE)
	wantErrno(t, "rename with RENAME_EXCHANGE", exchange, unix.EINVAL)
	noreplace := unix.Renameat2(unix.AT_FDCWD, at("a"), unix.AT_FDCWD, at("b"), unix.RENAME_NOREPLACE)
	wantErrno(t, "rename with RENAME_NOREPLACE", noreplace, unix.EEXIST)
	for what, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "device": unix.S_IFCHR} {
		wantErrno(t, "mknod of a "+what, unix.Mknod(at("special"), mode|0o600, int(unix.Mkdev(1, 3))), unix.EOPNOTSUPP)
	}
	acl := []byte{2, 0, 0, 0, // version, then entries {tag, permissions, id}: owner, user 1, group, mask, others
		1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 1, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255}
	wantErrno(t, "setxattr of an ACL", unix.Setxattr(at("a"), "system.posix_acl_access", acl, 0), unix.EOPNOTSUPP)
	long := make([]byte, 256)
	for i := range long {
		long[i] = 'n'
	}
	wantErrno(t, "a name of 256 bytes", os.WriteFile(at(string(long)), nil, 0o644), unix.ENAMETOOLONG)
	if err := os.WriteFile(at(string(long[:255])), nil, 0o644); err != nil {
		t.Errorf("a name of 255 bytes: %v", err)
	}
	names, err := os.ReadDir(m.Dir)
	if err != nil || len(names) != 3 {
		t.Errorf("%d names, want 3 (%v)", len(names), err)
	}
	for _, name := range []string{"a", "b"} {
		if got, err := os.ReadFile(at(name)); err != nil || string(got) != name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	m.Unmount(t)
}

// A mknod of a regular file makes one.
func TestMknodRegular(t *testing.T) {
	m := mountpoint.NewVault(t).Mount(t, mountpoint.Options{})
	name := filepath.Join(m.Dir, "file")
	if err := unix.Mknod(name, unix.S_IFREG|0o640, 0); err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(name)
	if err != nil || st.Mode() != 0o640 || st.Size() != 0 {
		t.Errorf("%v, %v", st, err)
	}
	m.Unmount(t)
}

// copy_file_range(2) works by the kernel's own copying.
func TestCopyFileRange(t *testing.T) {
	m := mountpoint.NewVault(t).Mount(t, mountpoint.Options{})
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	if err := os.WriteFile(filepath.Join(m.Dir, "from"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(filepath.Join(m.Dir, "from"))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to := create(t, filepath.Join(m.Dir, "to"))
	for done := 0; done < len(data); {
		n, err := unix.CopyFileRange(int(from.Fd()), nil, int(to.Fd()), nil, len(data)-done, 0)
		if err != nil || n == 0 {
			t.Fatalf("after %d bytes: %d, %v", done, n, err)
		}
		done += n
	}
	got, err := os.ReadFile(filepath.Join(m.Dir, "to"))
	if err != nil || !slices.Equal(got, data) {
		t.Errorf("the copy differs (%v)", err)
	}
	from.Close()
	to.Close()
	m.Unmount(t)
}

// While a file is in use, unmounting fails with EBUSY and changes nothing.
func TestBusy(t *testing.T) {
	m := mountpoint.NewVault(t).Mount(t, mountpoint.Options{})
	f := create(t, filepath.Join(m.Dir, "file"))
	wantErrno(t, "unmount", m.Server.Unmount(), unix.EBUSY)
	if _, err := fmt.Fprint(f, "still here"); err != nil {
		t.Error(err)
	}
	f.Close()
	m.Unmount(t)
	if err := m.Server.Unmount(); err != nil {
		t.Errorf("a second unmount: %v", err)
	}
}
