// Package ext4 gives tests a disk that can be filled, and whose power can be cut: ext4 on a loop device. It needs root.
package ext4

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is an ext4 on a loop device. At the end of the test it is taken away.
type Disk struct {
	Dir   string // where it is mounted
	image string
}

// New makes and mounts a disk of so many MiB.
func New(t testing.TB, mib int64) *Disk {
	t.Helper()
	top := t.TempDir()
	d := &Disk{Dir: filepath.Join(top, "disk"), image: filepath.Join(top, "image")}
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, mib<<20))
	System(t, "mkfs.ext4", "-q", "-m", "0", d.image)
	must(t, os.Mkdir(d.Dir, 0o755))
	d.Mount(t)
	t.Cleanup(func() {
		if d.mounted() {
			d.Unmount(t)
		}
	})
	return d
}

func (d *Disk) mounted() bool {
	mounts, err := os.ReadFile("/proc/self/mounts")
	return err != nil || bytes.Contains(mounts, []byte(" "+d.Dir+" "))
}

// Mount mounts the disk.
func (d *Disk) Mount(t testing.TB, options ...string) {
	t.Helper()
	args := []string{"-t", "ext4", "-o", "loop", d.image, d.Dir}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	System(t, "mount", args...)
}

// Unmount unmounts the disk.
func (d *Disk) Unmount(t testing.TB) {
	t.Helper()
	System(t, "umount", d.Dir)
}

// What FS_IOC_SHUTDOWN takes from a file system, see ext4's header file: it ends as if the power had been cut.
const (
	ioctlShutdown   = 0x8004587d // _IOR('X', 125, __u32)
	goingNoLogFlush = 2          // and what ext4's journal has in memory is lost
)

// Cut ends the file system: from now on all operations on it fail, and what was not on the disk is lost. To be used
// again it must be unmounted and mounted.
func (d *Disk) Cut(t testing.TB) {
	t.Helper()
	f, err := os.Open(d.Dir)
	must(t, err)
	defer f.Close()
	must(t, unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, goingNoLogFlush))
}

// System runs a program of the system and returns what it says.
func System(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(lookPath(name), args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// lookPath finds programs also where only root's path leads.
func lookPath(name string) string {
	for _, try := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if p, err := exec.LookPath(try); err == nil {
			return p
		}
	}
	return name
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
