// Package disk has the real command work on disks that are full, read-only, gone, failing or without power: ext4 on a
// loop device. It needs root.
package disk

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"envfs/tests/command"
)

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests must be run by root")
		return 1
	}
	return command.Main(m, &binary)
}

// disk is an ext4 on a loop device. At the end of the test it is taken away.
type disk struct {
	dir   string // where it is mounted
	image string
}

func newDisk(t *testing.T, mib int64) *disk {
	t.Helper()
	top := t.TempDir()
	d := &disk{dir: filepath.Join(top, "disk"), image: filepath.Join(top, "image")}
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, mib<<20))
	system(t, "mkfs.ext4", "-q", "-m", "0", d.image)
	must(t, os.Mkdir(d.dir, 0o755))
	d.mount(t)
	t.Cleanup(func() {
		if d.mounted() {
			d.unmount(t)
		}
	})
	return d
}

func (d *disk) mounted() bool {
	mounts, err := os.ReadFile("/proc/self/mounts")
	return err != nil || bytes.Contains(mounts, []byte(" "+d.dir+" "))
}

func (d *disk) mount(t *testing.T, options ...string) {
	t.Helper()
	args := []string{"-t", "ext4", "-o", "loop", d.image, d.dir}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	system(t, "mount", args...)
}

func (d *disk) unmount(t *testing.T) {
	t.Helper()
	system(t, "umount", d.dir)
}

// What FS_IOC_SHUTDOWN takes from a file system, see ext4's header file: it ends as if the power had been cut.
const (
	ioctlShutdown   = 0x8004587d // _IOR('X', 125, __u32)
	goingNoLogFlush = 2          // and what ext4's journal has in memory is lost
)

// cut ends the file system: from now on all operations on it fail, and what was not on the disk is lost.
func (d *disk) cut(t *testing.T) {
	t.Helper()
	f, err := os.Open(d.dir)
	must(t, err)
	defer f.Close()
	must(t, unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, goingNoLogFlush))
}

// restart mounts a disk that was cut. The daemon is gone.
func (d *disk) restart(t *testing.T, v *command.Vault) {
	t.Helper()
	must(t, v.Discard()) // the dead mount
	d.unmount(t)
	d.mount(t)
}

// newVault makes and mounts a vault on d; the user's state lies on another disk. At the end of the test it is taken away.
func (d *disk) newVault(t *testing.T, flags ...string) *command.Vault {
	t.Helper()
	v, err := command.New(binary, filepath.Join(d.dir, "store"), t.TempDir())
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			log, err := v.Log()
			t.Logf("log of the daemon (%v):\n%s", err, log[max(0, len(log)-8000):])
		}
		if err := v.Discard(); err != nil {
			t.Error(err)
		}
	})
	must(t, v.Mount(flags...))
	return v
}

// finish unmounts the vault; nothing in it may be damaged.
func finish(t *testing.T, v *command.Vault) {
	t.Helper()
	must(t, v.Unmount())
	must(t, v.Check())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// system runs a program of the system and returns what it says.
func system(t *testing.T, name string, args ...string) string {
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
