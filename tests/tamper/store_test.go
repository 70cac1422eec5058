package tamper

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// snapshot is a store at one moment: its objects, and a hard link that keeps the file that is its root, as the inode
// of that file is what tells the store from a copy.
type snapshot struct {
	objects map[string][]byte
	root    string
	stamp   time.Time // modification time of files with this snapshot's content, and of no others
}

// takeSnapshot reads the store in dir.
func takeSnapshot(t testing.TB, dir string) *snapshot {
	t.Helper()
	s := &snapshot{objects: readObjects(t, dir), root: filepath.Join(t.TempDir(), "root")}
	sum := sha256.Sum256(s.objects["root"])
	s.stamp = time.Unix(1e8+int64(binary.BigEndian.Uint32(sum[:])>>4), 0)
	must(t, os.Link(filepath.Join(dir, "root"), s.root))
	return s
}

// readObjects returns all files below dir by their names.
func readObjects(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	objects := make(map[string][]byte)
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := readFile(p)
		objects[strings.TrimPrefix(p, dir+"/")] = data
		return err
	}))
	return objects
}

// readFile reads a file; of one that is larger than any object here, it returns nil.
func readFile(path string) ([]byte, error) {
	if st, err := os.Stat(path); err != nil || st.Size() > 64<<20 {
		return nil, err
	}
	return os.ReadFile(path)
}

// restore makes the store in dir what it was, with the very file that was its root.
func (s *snapshot) restore(t testing.TB, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, dir+"/")
		_, ok := s.objects[name]
		switch {
		case d.IsDir() && ok: // in an object's place
			must(t, os.RemoveAll(p))
			return filepath.SkipDir
		case !d.IsDir() && (!ok || !d.Type().IsRegular()):
			return os.Remove(p)
		}
		return nil
	}))
	root := filepath.Join(dir, "root")
	if !sameFile(root, s.root) {
		must(t, ignoreMissing(os.Remove(root)))
		must(t, os.Link(s.root, root))
	}
	for name, data := range s.objects {
		path := filepath.Join(dir, name)
		if st, err := os.Lstat(path); err == nil && st.ModTime().Equal(s.stamp) && st.Size() == int64(len(data)) {
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, data, 0o600))
		must(t, os.Chtimes(path, s.stamp, s.stamp))
	}
}

// listing tells files from each other, and from what they were, without reading them.
type listing map[string]string

func list(t testing.TB, dir string) listing {
	t.Helper()
	l := make(listing)
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := os.Lstat(p)
		if err == nil {
			l[strings.TrimPrefix(p, dir+"/")] = fmt.Sprint(st.Size(), st.ModTime().UnixNano(), st.Mode(), st.Sys().(*syscall.Stat_t).Ino)
		}
		return err
	}))
	return l
}

// unchanged makes sure that a store is as it was.
func (before listing) unchanged(t *testing.T, dir string) {
	t.Helper()
	now := list(t, dir)
	for name, was := range before {
		if now[name] != was {
			t.Errorf("looking has changed or removed %s", name)
		}
		delete(now, name)
	}
	for name := range now {
		t.Errorf("looking has made %s", name)
	}
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

func ignoreMissing(err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// intruder changes a store as whoever may write to it can: without a key unless the test hands one over.
type intruder struct {
	t   testing.TB
	dir string
	*fixture
	now *state
}

func (i *intruder) path(name string) string { return filepath.Join(i.dir, name) }

func (i *intruder) read(name string) []byte {
	i.t.Helper()
	data, err := os.ReadFile(i.path(name))
	must(i.t, err)
	return data
}

func (i *intruder) write(name string, data []byte) {
	i.t.Helper()
	must(i.t, os.MkdirAll(filepath.Dir(i.path(name)), 0o700))
	must(i.t, os.WriteFile(i.path(name), data, 0o600))
}

// edit changes the bytes of an object.
func (i *intruder) edit(name string, fn func(b []byte) []byte) {
	i.t.Helper()
	i.write(name, fn(i.read(name)))
}

// remove takes objects away; the file that is the root is kept elsewhere.
func (i *intruder) remove(names ...string) {
	i.t.Helper()
	for _, name := range names {
		must(i.t, os.Remove(i.path(name)))
	}
}

// replace puts something else than a file in the place of an object.
func (i *intruder) replace(name string, put func(path string) error) {
	i.t.Helper()
	i.remove(name)
	must(i.t, put(i.path(name)))
}

// swap exchanges the content of two objects.
func (i *intruder) swap(a, b string) {
	i.t.Helper()
	x, y := i.read(a), i.read(b)
	i.write(a, y)
	i.write(b, x)
}

// names returns the names of the store's objects that begin with prefix, in order.
func (i *intruder) names(prefix string) (names []string) {
	i.t.Helper()
	for name := range readObjects(i.t, i.dir) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// putBack makes the store what it was at an earlier moment, the file that is the root included.
func (i *intruder) putBack(s *snapshot) { s.restore(i.t, i.dir) }

// flip returns an edit that changes one bit.
func flip(bit int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}
}
