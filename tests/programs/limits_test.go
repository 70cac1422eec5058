package programs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// 10,000 files are open at once, written, read, and some of them without a name by then.
func TestManyOpenFiles(t *testing.T) {
	const n = 10_000
	v := mount(t)
	files := make([]*os.File, 0, n)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for i := range n {
		f, err := os.OpenFile(filepath.Join(v.Point, fmt.Sprintf("file%d", i)), os.O_RDWR|os.O_CREATE, 0o644)
		must(t, err)
		files = append(files, f)
	}
	for i, f := range files {
		_, err := fmt.Fprintf(f, "content of %d", i)
		must(t, err)
		if i%10 == 0 {
			must(t, os.Remove(f.Name()))
		}
	}
	buf := make([]byte, 40)
	for i, f := range files {
		n, _ := f.ReadAt(buf, 0) // that the file ends is no error here
		if got, want := string(buf[:n]), fmt.Sprintf("content of %d", i); got != want {
			t.Fatalf("file %d: %q, want %q", i, got, want)
		}
	}
	for _, f := range files {
		must(t, f.Close())
	}
	files = nil
	must(t, v.Remount())
	names, err := os.ReadDir(v.Point)
	if err != nil || len(names) != n-n/10 {
		t.Errorf("%d names (%v), want %d", len(names), err, n-n/10)
	}
	wantFile(t, filepath.Join(v.Point, "file9999"), "content of 9999")
}

// Names of up to 255 bytes of any kind, paths of up to 4,095.
func TestLongNames(t *testing.T) {
	v := mount(t)
	var all []byte // every byte that a name may hold
	for c := 255; c > 0; c-- {
		if c != '/' {
			all = append(all, byte(c))
		}
	}
	names := []string{
		string(all) + "x", strings.Repeat("\xff", 255), strings.Repeat("\n", 255), strings.Repeat("ü", 127) + "u",
		"\x01", "...", " ", "-", "\\", "con", "a:b", "e\u0301", "\u00e9", "A", "a",
	}
	for i, name := range names {
		must(t, os.WriteFile(v.Point+"/"+name, []byte{byte(i)}, 0o644))
	}
	for _, long := range []string{strings.Repeat("n", 256), string(all) + "xy"} {
		if err := os.WriteFile(v.Point+"/"+long, nil, 0o644); !errors.Is(err, unix.ENAMETOOLONG) {
			t.Errorf("a name of %d bytes: %v, want ENAMETOOLONG", len(long), err)
		}
	}
	deep := v.Point
	for len(deep) < 4095-256 {
		deep += "/" + strings.Repeat("d", 200)
		must(t, os.Mkdir(deep, 0o755))
	}
	deep += "/" + strings.Repeat("f", 4095-len(deep)-1)
	must(t, os.WriteFile(deep, []byte("deep"), 0o644))
	if err := os.WriteFile(deep+"f", nil, 0o644); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a path of 4,096 bytes: %v, want ENAMETOOLONG", err)
	}
	target := strings.Repeat("t/", 2047) + "t"
	must(t, os.Symlink(target, v.Point+"/link"))

	must(t, v.Remount())
	for i, name := range names {
		wantFile(t, v.Point+"/"+name, string([]byte{byte(i)}))
	}
	listed := list(t, v.Point)
	for _, name := range names {
		if !slices.Contains(listed, name) {
			t.Errorf("%q is not listed", name)
		}
	}
	wantFile(t, deep, "deep")
	if got, err := os.Readlink(v.Point + "/link"); err != nil || got != target {
		t.Errorf("link to %d bytes (%v), want %d", len(got), err, len(target))
	}
	r, err := v.Run(v.Keyed("cat", v.Store, strings.TrimPrefix(deep, v.Point))...)
	if err != nil || r.Code != 0 || r.Out != "deep" {
		t.Errorf("envfs cat of a long path: %+v, %v", r, err)
	}
}

// list returns the names in a directory in the order in which the kernel has them, but for "." and "..".
func list(t *testing.T, dir string) []string {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	must(t, err)
	return names
}

// st_ino, times and the order of names in a directory are the same after mounting again, also when the daemon was
// killed, and when files have come and gone in between.
func TestIdentity(t *testing.T) {
	const n = 3000
	v := mount(t)
	rng := rand.New(rand.NewPCG(5, 5))
	dir := filepath.Join(v.Point, "dir")
	must(t, os.Mkdir(dir, 0o755))
	type identity struct {
		ino, nlink   uint64
		mtime, ctime unix.Timespec
	}
	identify := func() (all map[string]identity, order []string) {
		all = make(map[string]identity)
		order = list(t, dir)
		for _, name := range append([]string{"."}, order...) {
			st := stat(t, filepath.Join(dir, name))
			all[name] = identity{ino: st.Ino, nlink: uint64(st.Nlink), mtime: st.Mtim, ctime: st.Ctim}
		}
		return all, order
	}
	for i := range n {
		name := filepath.Join(dir, oddName(rng, i))
		switch i % 4 {
		case 0:
			must(t, os.Mkdir(name, 0o755))
		case 1:
			must(t, os.Symlink("x", name))
		default:
			must(t, os.WriteFile(name, make([]byte, rng.IntN(100)), 0o644))
			setTime(t, name, oddTime(rng))
		}
	}
	before, order := identify()
	seen := make(map[uint64]bool)
	for name, id := range before {
		if seen[id.ino] {
			t.Errorf("%q shares its number %d with another", name, id.ino)
		}
		seen[id.ino] = true
	}
	for _, again := range []struct {
		what string
		run  func() error
	}{
		{"mounted again", func() error { return v.Remount() }},
		{"killed and mounted again", func() error {
			// What came and went leaves the rest where it was; the directory's own times change.
			for i := range 500 {
				name := filepath.Join(dir, fmt.Sprintf("passing%d", i))
				must(t, os.WriteFile(name, nil, 0o644))
				must(t, os.Remove(name))
			}
			must(t, os.Chtimes(dir, time.Time{}, time.Unix(5, 5)))
			before["."] = func() identity { all, _ := identify(); return all["."] }()
			if err := v.Kill(); err != nil {
				return err
			}
			return v.Mount()
		}},
	} {
		must(t, again.run())
		after, newOrder := identify()
		if !slices.Equal(order, newOrder) {
			t.Errorf("%s: the order of names has changed", again.what)
		}
		for name, want := range before {
			if after[name] != want {
				t.Errorf("%s: %q: %+v, want %+v", again.what, name, after[name], want)
			}
		}
	}
}
