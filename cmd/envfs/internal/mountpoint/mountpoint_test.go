package mountpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseTable(t *testing.T) {
	const text = `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
40 36 0:50 / /home/u/a\040b\134c rw,nosuid - fuse.envfs /home/u/va\011ult rw,user_id=1000
`
	got, err := parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mount{
		{Path: "/mnt2", Type: "ext3", Source: "/dev/root", Major: 98},
		{Path: `/home/u/a b\c`, Type: FSType, Source: "/home/u/va\tult", Minor: 50},
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, bad := range []string{"x\n", "36 35 98:0 /a /b rw\n", "36 35 9 /a /b rw - t s\n"} {
		if _, err := parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"/a", "/a", true}, {"/a/b", "/a", true}, {"/ab", "/a", false}, {"/a", "/a/b", false}, {"/a/..b", "/a", true}, {"/a", "/", true},
	} {
		if got := within(c.path, c.dir); got != c.want {
			t.Errorf("within(%q, %q) = %v", c.path, c.dir, got)
		}
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	for _, d := range []string{"store/in", "empty", "full/x"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"empty": nil, "full": ErrNotEmpty, "file": ErrNotDir, "missing": ErrMissing, "store/in": ErrInsideStore, "store": ErrInsideStore,
		".": ErrStoreInside,
	} {
		dead, err := Check(filepath.Join(dir, name), store)
		if dead || !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func TestUsersNamesThisProcess(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range Users(dir) {
		if p.PID == os.Getpid() && p.How == "open" && p.Path == "held" {
			return
		}
	}
	t.Error("who holds a file open is not found")
}
