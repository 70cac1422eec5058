package posix

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"envfs/fs/fusefs"
	"envfs/tests/mountpoint"
)

const plainUser = 65534

// asUser runs a shell command in dir as a plain user. The way to dir may be closed to that user.
func asUser(t *testing.T, dir, command string) error {
	t.Helper()
	user := strconv.Itoa(plainUser)
	cmd := exec.Command("setpriv", "--reuid="+user, "--regid="+user, "--clear-groups", "/bin/sh", "-c", command)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%s: %v: %s", command, err, out)
	}
	return err
}

func modeOf(t *testing.T, name string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Mode & 0o7777
}

// What lets a file run with others' rights goes when a plain user changes its content, or anybody its owner.
func TestPrivilegesAreTakenAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test must run as root")
	}
	for _, mode := range []struct {
		name      string
		writeback bool
	}{{"writethrough", false}, {"writeback", true}} {
		t.Run(mode.name, func(t *testing.T) {
			m := mountpoint.NewVault(t).Mount(t, mountpoint.Options{FUSE: fusefs.Options{AllowOther: true, Writeback: mode.writeback}})
			if err := os.Chmod(m.Dir, 0o777); err != nil {
				t.Fatal(err)
			}
			for name, c := range map[string]struct {
				command string
				mode    uint32 // before
				want    uint32
			}{
				"write":          {"echo x >>write", 0o6777, 0o777},
				"write-sgid":     {"echo x >>write-sgid", 0o2767, 0o2767}, // mandatory locking's mark, not setgid
				"open-truncate":  {"echo x >open-truncate", 0o6777, 0o777},
				"truncate":       {"truncate -s 1 truncate", 0o6777, 0o777},
				"read":           {"cat read", 0o6777, 0o6777},
				"write-ordinary": {"echo x >>write-ordinary", 0o777, 0o777},
			} {
				file := filepath.Join(m.Dir, name)
				if err := os.WriteFile(file, []byte("content"), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := unix.Chmod(file, c.mode); err != nil {
					t.Fatal(err)
				}
				if err := asUser(t, m.Dir, c.command); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if got := modeOf(t, file); got != c.want {
					t.Errorf("%s: mode %o became %o, want %o", name, c.mode, got, c.want)
				}
			}
			file := filepath.Join(m.Dir, "chown")
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := unix.Chmod(file, 0o6755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(file, 1, 1); err != nil {
				t.Fatal(err)
			}
			if got := modeOf(t, file); got != 0o755 {
				t.Errorf("chown: mode became %o, want 755", got)
			}
			m.Unmount(t)
		})
	}
}

// Others than the owner are kept out as the mode says, and the sticky bit and setgid directories do what they do.
func TestPermissions(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test must run as root")
	}
	m := mountpoint.NewVault(t).Mount(t, mountpoint.Options{FUSE: fusefs.Options{AllowOther: true}})
	if err := os.Chmod(m.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sticky, shared := filepath.Join(m.Dir, "sticky"), filepath.Join(m.Dir, "shared")
	for dir, mode := range map[string]uint32{sticky: 0o1777, shared: 0o2777} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, 0, 123); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(sticky, "root"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for command, works := range map[string]bool{
		"cat sticky/root":                              false,
		"rm -f sticky/root":                            false,
		"mv sticky/root sticky/stolen":                 false,
		"echo x >new":                                  false,
		"echo x >sticky/mine && rm sticky/mine":        true,
		"ls sticky >/dev/null":                         true,
		"mkdir shared/d && echo x >shared/d/f":         true,
		"chmod 600 sticky":                             false,
		"chown 0 shared/d":                             false,
		"umask 027; echo x >shared/u; mkdir shared/ud": true,
	} {
		if err := asUser(t, m.Dir, command); (err == nil) != works {
			t.Errorf("%s: %v, want to work: %v", command, err, works)
		}
	}
	for name, want := range map[string]uint32{"d": 0o2755, "d/f": 0o644, "u": 0o640, "ud": 0o2750} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(shared, name), &st); err != nil {
			t.Error(err)
			continue
		}
		if st.Mode&0o7777 != want || st.Gid != 123 || st.Uid != plainUser {
			t.Errorf("%s: mode %o, owner %d, group %d; want %o, %d, 123", name, st.Mode&0o7777, st.Uid, st.Gid, want, plainUser)
		}
	}
	m.Unmount(t)
}
