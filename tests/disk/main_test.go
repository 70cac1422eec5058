// Package disk has the real command work on disks that are full, read-only, gone, failing or without power: ext4 on a
// loop device. It needs root.
package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"envfs/tests/command"
	"envfs/tests/ext4"
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

// disk is a disk that tests fill and whose power they cut.
type disk struct {
	*ext4.Disk
	dir string // where it is mounted
}

func newDisk(t *testing.T, mib int64) *disk {
	t.Helper()
	d := ext4.New(t, mib)
	return &disk{d, d.Dir}
}

// restart mounts a disk that was cut. The daemon is gone.
func (d *disk) restart(t *testing.T, v *command.Vault) {
	t.Helper()
	must(t, v.Discard()) // the dead mount
	d.Unmount(t)
	d.Mount(t)
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
	return ext4.System(t, name, args...)
}
