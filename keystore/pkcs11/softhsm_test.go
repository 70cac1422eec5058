package pkcs11

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	softHSM = "/usr/lib/softhsm/libsofthsm2.so"
	goodPIN = "123456"
)

// TestMain builds the helper program and puts it onto the PATH.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "envfs-pkcs11-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if out, err := exec.Command("go", "build", "-o", dir, "envfs/cmd/envfs-pkcs11").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build helper: %v\n%s", err, out)
			return 1
		}
		os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		return m.Run()
	}())
}

// tokens points SoftHSM to a directory of its own for the test, which it returns, and makes a token for each label.
func tokens(t *testing.T, labels ...string) (dir string) {
	t.Helper()
	root := t.TempDir()
	dir = filepath.Join(root, "tokens")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(root, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	for _, label := range labels {
		tool(t, "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", goodPIN)
	}
	return dir
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// typed is a source of PINs that counts how often it is asked.
type typed struct {
	pin   string
	asked int
}

func (p *typed) source(context.Context, string) ([]byte, error) {
	p.asked++
	return []byte(p.pin), nil
}

// open returns a provider with a module of its own, as a new process would have.
func open(t *testing.T, path, uri, pin string) *Provider {
	t.Helper()
	m := Load(path, (&typed{pin: pin}).source)
	t.Cleanup(m.Close)
	p, err := m.Provider(uri)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// spied has opensc's pkcs11-spy stand between the helper and SoftHSM, and returns its path and a function that tells
// how often a function of the module was called.
func spied(t *testing.T) (path string, calls func(function string) int) {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/pkcs11-spy.so")
	if err != nil || len(found) == 0 {
		t.Fatalf("pkcs11-spy.so of opensc is missing: %v", err)
	}
	log := filepath.Join(t.TempDir(), "spy.log")
	t.Setenv("PKCS11SPY", softHSM)
	t.Setenv("PKCS11SPY_OUTPUT", log)
	return found[0], func(function string) int {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), ": "+function+"\n")
	}
}
