// Package reader proves docs/FORMAT.md: a reader in Python, written from that document alone, extracts a whole vault.
package reader

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"envfs/fs"
	"envfs/keystore"
	"envfs/tests/mountpoint"
)

// python is Debian's, with its package python3-cryptography: no other may be taken.
const python = "/usr/bin/python3"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPythonReadsWhatEnvfsWrote compares, by rsync, a tree with what the reader makes of the vault that it was put into:
// types, contents, holes, times, owners, permissions, hard links, extended attributes.
func TestPythonReadsWhatEnvfsWrote(t *testing.T) {
	v := mountpoint.NewVault(t)
	o := mountpoint.Options{FS: fs.Options{Manual: true, Limits: fs.Limits{Extent: 64}}}
	r := rand.New(rand.NewPCG(20260102, 1))

	m := v.Mount(t, o)
	fill(t, r, m.Dir)
	m.Unmount(t)

	// A new key epoch, and changes: files with two data keys, extents with dead blocks, headers of two epochs.
	f := v.Open(t, o.FS)
	must(t, f.ChangeKeys(t.Context(), func(k *keystore.Vault) (*keystore.Vault, error) {
		return k.Rotate(strings.NewReader(string(random(r, 4096))), time.Now())
	}))
	must(t, f.Close(t.Context()))
	m = v.Mount(t, o)
	change(t, r, m.Dir)
	m.Unmount(t)

	dir := t.TempDir()
	key, out := filepath.Join(dir, "key"), filepath.Join(dir, "out")
	must(t, os.WriteFile(key, v.Key[:], 0o600))
	o.FS.ReadOnly = true
	m = v.Mount(t, o)
	run(t, python, "envfs_reader.py", v.Store, key, out)
	for _, way := range [][2]string{{m.Dir, out}, {out, m.Dir}} {
		diff := run(t, "rsync", "-aHXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes", way[0]+"/", way[1]+"/")
		if len(diff) > 0 {
			t.Errorf("the reader extracted something else:\n%s", diff)
		}
	}
	list := run(t, python, "envfs_reader.py", v.Store, key)
	if n := bytes.Count(list, []byte("\n")); n < manyNames {
		t.Errorf("the reader lists %d names", n)
	}
	sparse(t, filepath.Join(out, "holey"))
}

// TestPythonRefuses: what is not whole, or not opened by the key, gives an error and no file.
func TestPythonRefuses(t *testing.T) {
	v := mountpoint.NewVault(t)
	m := v.Mount(t, mountpoint.Options{FS: fs.Options{Manual: true}})
	must(t, os.WriteFile(filepath.Join(m.Dir, "file"), []byte("content"), 0o600))
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	must(t, os.WriteFile(key, v.Key[:], 0o600))
	refused := func(why string) {
		t.Helper()
		out, err := exec.Command(python, "envfs_reader.py", v.Store, key).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte(why)) {
			t.Errorf("%v: %s, not %q", err, out, why)
		}
	}
	refused("not cleanly unmounted")
	m.Unmount(t)
	headers, err := filepath.Glob(filepath.Join(v.Store, "files/*/*.h*"))
	must(t, err)
	data, err := os.ReadFile(headers[0])
	must(t, err)
	data[len(data)-1] ^= 1
	must(t, os.WriteFile(headers[0], data, 0o600))
	refused("is another object than its reference says")
	must(t, os.WriteFile(key, make([]byte, 32), 0o600))
	refused("no slot")
}

const manyNames = 1_200

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func fill(t *testing.T, r *rand.Rand, root string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	must(t, os.Mkdir(at("many"), 0o755))
	for i := range manyNames {
		must(t, os.WriteFile(at(fmt.Sprintf("many/%d", i)), nil, 0o600))
	}
	for _, n := range []int{0, 1, 4095, 4096, 4097, 16 << 10, 16<<10 + 1, 1<<20 + 77} {
		must(t, os.WriteFile(at(fmt.Sprintf("size-%d", n)), random(r, n), 0o640))
	}
	f, err := os.Create(at("paged"))
	must(t, err)
	defer f.Close()
	for i := range int64(3_000) { // above what the header of a file holds: two levels of pages
		_, err := f.WriteAt(random(r, 4096), (i*3+i%2)*4096)
		must(t, err)
	}
	h, err := os.Create(at("holey"))
	must(t, err)
	defer h.Close()
	must(t, h.Truncate(64<<20))
	_, err = h.WriteAt(random(r, 9000), 33<<20+5)
	must(t, err)
	must(t, os.MkdirAll(at("a/b/c"), 0o750))
	must(t, os.WriteFile(at("a/b/c/name\xff with\n any bytes"), random(r, 100), 0o4755))
	must(t, os.Link(at("size-4097"), at("a/linked")))
	must(t, os.Symlink("../nowhere/\xfe", at("a/b/symlink")))
	must(t, os.Link(at("a/b/symlink"), at("a/symlink-again")))
	must(t, os.Mkdir(at("empty"), 0o2755))
	must(t, unix.Setxattr(at("size-1"), "user.small", []byte("value"), 0))
	must(t, unix.Setxattr(at("size-4096"), "user.large", random(r, 3000), 0))
	must(t, unix.Setxattr(at("a"), "user.large", random(r, 1000), 0))
	long := time.Unix(-12345, 678)
	must(t, os.Chtimes(at("size-0"), long, long))
	if os.Geteuid() == 0 {
		must(t, os.Lchown(at("a/b/symlink"), 12, 34))
		must(t, os.Chown(at("size-1"), 1234, 5678))
	}
}

func change(t *testing.T, r *rand.Rand, root string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	for name, off := range map[string]int64{"paged": 30_000, "size-1048653": 500_000, "size-16384": 0} {
		f, err := os.OpenFile(at(name), os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(random(r, 5_000), off)
		must(t, err)
		must(t, f.Close())
	}
	must(t, os.Truncate(at("size-16385"), 20_000))
	must(t, os.Chmod(at("size-4095"), 0o400))
	must(t, os.Rename(at("size-4097"), at("a/b/moved")))
	must(t, os.Remove(at("many/7")))
}

// sparse checks that holes were made holes.
func sparse(t *testing.T, path string) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	if st.Blocks*512 > st.Size/8 {
		t.Errorf("%s takes %d of %d bytes", filepath.Base(path), st.Blocks*512, st.Size)
	}
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	c := exec.Command(name, args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}
