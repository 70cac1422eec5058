package posix

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"envfs/tests/mountpoint"
)

// asPlainUser tells the copy of this test binary that runs as a plain user where it may work.
const asPlainUser = "ENVFS_TEST_AS_PLAIN_USER"

// A plain user mounts by fusermount3.
func TestPlainUser(t *testing.T) {
	if dir := os.Getenv(asPlainUser); dir != "" {
		plainUserMounts(t)
		return
	}
	if os.Geteuid() != 0 {
		plainUserMounts(t)
		return
	}
	// The test binary lies where only root may go, and /dev/fuse may be closed to others: give the user a copy of the
	// one and, in a name space of its own, another of the other.
	dir, err := os.MkdirTemp("", "plainuser")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, plainUser, plainUser); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "posix.test")
	if err := copyFile(binary, "/proc/self/exe"); err != nil {
		t.Fatal(err)
	}
	user := strconv.Itoa(plainUser)
	cmd := exec.Command("unshare", "-m", "/bin/sh", "-c", `
		set -e
		mknod fuse c 10 229
		chmod 666 fuse
		mount --bind fuse /dev/fuse
		exec setpriv --reuid=`+user+` --regid=`+user+` --clear-groups "$0" -test.run='^TestPlainUser$' -test.v`, binary)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asPlainUser+"="+dir, "TMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestPlainUser")) {
		t.Fatalf("as a plain user: %v\n%s", err, out)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func plainUserMounts(t *testing.T) {
	v := mountpoint.NewVault(t)
	m := v.Mount(t, mountpoint.Options{})
	name := filepath.Join(m.Dir, "file")
	if err := os.WriteFile(name, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil || int(st.Uid) != os.Getuid() {
		t.Errorf("owner %d, want %d (%v)", st.Uid, os.Getuid(), err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || !strings.Contains(string(mounts), " "+m.Dir+" fuse.envfs ") {
		t.Errorf("no mount of type fuse.envfs at %s (%v):\n%s", m.Dir, err, mounts)
	}
	wantErrno(t, "chown by a plain user", os.Chown(name, 0, 0), unix.EPERM)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	wantErrno(t, "unmount while a file is open", m.Server.Unmount(), unix.EBUSY)
	f.Close()
	m.Unmount(t)
	m = v.Mount(t, mountpoint.Options{})
	if data, err := os.ReadFile(filepath.Join(m.Dir, "file")); err != nil || string(data) != "content" {
		t.Errorf("after mounting again: %q, %v", data, err)
	}
	m.Unmount(t)
}
