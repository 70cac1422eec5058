package tamper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// node is what one path of a mount shows.
type node struct {
	mode   fs.FileMode
	size   int64
	nlink  uint64
	mtime  int64
	target string            // symlink
	data   []byte            // regular
	names  []string          // directory
	xattrs map[string]string // all
}

// tree is what a mount shows, by paths; "" is the top.
type tree map[string]*node

const pageSize = 4096

// readTree reads all of a mount; any error ends the test.
func readTree(t testing.TB, root string) tree {
	t.Helper()
	tr := make(tree)
	must(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n, bad := readNode(p, nil)
		if len(bad) > 0 {
			return fmt.Errorf("%s: %w", p, bad[0])
		}
		path := strings.TrimPrefix(strings.TrimPrefix(p, root), "/")
		tr[path] = n
		return nil
	}))
	return tr
}

// errWrong says that something was shown that never was.
var errWrong = errors.New("is not what it was")

// readNode reads one path in every way: attributes, extended attributes, content block by block or names. What can be
// read is compared with want, unless that is nil. It returns all errors, one for each thing that cannot be read.
func readNode(path string, want *node) (n *node, bad []error) {
	n = &node{xattrs: make(map[string]string)}
	st, err := os.Lstat(path)
	if err != nil {
		return n, []error{err}
	}
	sys := st.Sys().(*syscall.Stat_t)
	n.mode, n.size, n.nlink, n.mtime = st.Mode(), st.Size(), sys.Nlink, st.ModTime().UnixNano()
	if st.IsDir() {
		n.size = 0
	}
	if want != nil && (n.mode != want.mode || n.size != want.size || n.nlink != want.nlink || n.mtime != want.mtime) {
		bad = append(bad, fmt.Errorf("attributes: %w: %v %d bytes, %d links, not %v %d bytes, %d links", errWrong, n.mode, n.size, n.nlink, want.mode, want.size, want.nlink))
	}
	if err := n.readXattrs(path); err != nil {
		bad = append(bad, err)
	} else if want != nil && !maps.Equal(n.xattrs, want.xattrs) {
		bad = append(bad, fmt.Errorf("extended attributes: %w", errWrong))
	}
	switch {
	case st.Mode().IsRegular():
		bad = append(bad, n.readData(path, want)...)
	case st.IsDir():
		entries, err := os.ReadDir(path)
		if err != nil {
			return n, append(bad, err)
		}
		for _, e := range entries {
			n.names = append(n.names, e.Name())
		}
		if want != nil && !slices.Equal(n.names, want.names) {
			bad = append(bad, fmt.Errorf("names: %w: %d instead of %d", errWrong, len(n.names), len(want.names)))
		}
	default:
		if n.target, err = os.Readlink(path); err != nil {
			return n, append(bad, err)
		}
		if want != nil && n.target != want.target {
			bad = append(bad, fmt.Errorf("target: %w", errWrong))
		}
	}
	return n, bad
}

func (n *node) readXattrs(path string) error {
	list := make([]byte, 4096)
	k, err := unix.Llistxattr(path, list)
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	for _, name := range strings.Split(string(list[:k]), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 8192)
		k, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return fmt.Errorf("get extended attribute: %w", err)
		}
		n.xattrs[name] = string(value[:k])
	}
	return nil
}

// readData reads a file at once if that works, and block by block if not.
func (n *node) readData(path string, want *node) (bad []error) {
	f, err := os.Open(path)
	if err != nil {
		return []error{err}
	}
	defer f.Close()
	n.data = make([]byte, n.size)
	if _, err := f.ReadAt(n.data, 0); err == nil {
		if want != nil && !bytes.Equal(n.data, want.data) {
			bad = append(bad, fmt.Errorf("content: %w", errWrong))
		}
		return bad
	}
	for off := int64(0); off < n.size; off += pageSize {
		p := n.data[off:min(n.size, off+pageSize)]
		if _, err := f.ReadAt(p, off); err != nil {
			bad = append(bad, fmt.Errorf("block %d: %w", off/pageSize, err))
		} else if want != nil && (int64(len(want.data)) < off+int64(len(p)) || !bytes.Equal(p, want.data[off:][:len(p)])) {
			bad = append(bad, fmt.Errorf("block %d: %w", off/pageSize, errWrong))
		}
	}
	return bad
}

// harm is which paths of a mount cannot be read, and how many things of each.
type harm map[string]int

// compare reads all paths of want by name and returns which fail with EIO. Any other error, and anything that reads
// but is not what it was, ends the test.
func (tr tree) compare(t testing.TB, root string) harm {
	t.Helper()
	h := make(harm)
	for path, want := range tr {
		if !sampled(path) {
			continue
		}
		_, bad := readNode(filepath.Join(root, path), want)
		for _, err := range bad {
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("%q: %v", path, err)
				continue
			}
			h[path]++
		}
	}
	return h
}

// sampled reports whether a path is read each time: of the many names of one directory, some are.
func sampled(path string) bool {
	n, many := strings.CutPrefix(path, "Zq-many/Zq-")
	return !many || strings.HasSuffix(n, "3") && len(n) == 3
}

// below returns the paths of tr that begin with dir: itself and all that lies in it.
func (tr tree) below(dir string) (paths []string) {
	for path := range tr {
		if !sampled(path) {
			continue
		}
		if dir == "" || path == dir || strings.HasPrefix(path, dir+"/") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}
