// Package programs lets ordinary programs work on mounts of the real command, as root and as a plain user.
package programs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"envfs/tests/command"
)

const (
	// binaryVar names the command for the run as a plain user.
	binaryVar = "ENVFS_TEST_BINARY"
	// actorVar makes the test binary play another process: see actors.
	actorVar = "ENVFS_TEST_ACTOR"
	// plainUser is who else runs the tests.
	plainUser = 65534
)

var binary string

func TestMain(m *testing.M) {
	if actor := os.Getenv(actorVar); actor != "" {
		if err := act(actor, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if binary = os.Getenv(binaryVar); binary != "" {
		return m.Run()
	}
	return command.Main(m, &binary)
}

// TestAsPlainUser runs all the other tests again as a plain user, in a name space with a /dev/fuse that is open to all.
func TestAsPlainUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // that is what the other tests are doing
	}
	dir, err := os.MkdirTemp("", "plainuser")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self := filepath.Join(dir, "programs.test")
	must(t, copyFile(self, "/proc/self/exe"))
	must(t, os.Chmod(self, 0o755))
	must(t, os.Chown(dir, plainUser, plainUser))
	user := strconv.Itoa(plainUser)
	args := []string{"-m", "/bin/sh", "-c", `
		set -e
		mknod fuse c 10 229
		chmod 666 fuse
		mount --bind fuse /dev/fuse
		exec setpriv --reuid=` + user + ` --regid=` + user + ` --clear-groups "$0" "$@"`, self,
		"-test.v", "-test.skip=^TestAsPlainUser$", "-test.timeout=30m"}
	cmd := exec.Command("unshare", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), binaryVar+"="+binary, "HOME="+dir, "TMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.HasSuffix(bytes.TrimSpace(out), []byte("PASS")) {
		t.Fatalf("as a plain user: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "--- ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// mount makes and mounts a vault. At the end of the test it must unmount, and nothing in it may be damaged.
func mount(t *testing.T, flags ...string) *command.Vault {
	t.Helper()
	dir := t.TempDir()
	v, err := command.New(binary, filepath.Join(dir, "store"), dir)
	must(t, err)
	t.Cleanup(func() { finish(t, v) })
	must(t, v.Mount(flags...))
	return v
}

func finish(t *testing.T, v *command.Vault) {
	if t.Failed() {
		log, err := v.Log()
		t.Logf("log of the daemon (%v):\n%s", err, log)
		if err := v.Discard(); err != nil {
			t.Error(err)
		}
		return
	}
	st, err := v.Status()
	if err != nil || st.Errors != 0 {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := v.Unmount(); err != nil {
		t.Error(err)
		if err := v.Discard(); err != nil {
			t.Error(err)
		}
		return
	}
	if err := v.Check(); err != nil {
		t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// runIn runs a program in dir and returns what it wrote to standard output.
func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	var out, talk bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, environ, &out, &talk
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, tail(out.String()), tail(talk.String()))
	}
	return out.String()
}

// environ is where programs run: without the settings of whoever runs the tests.
var environ = []string{
	"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=/proc/nobody" /* nothing can be made there */, "LC_ALL=C", "TZ=UTC", "TERM=dumb",
	"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
	"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org",
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
