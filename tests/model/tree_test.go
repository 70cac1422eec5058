package model

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// describe tells of a file what both sides must agree on. Times of the last century were set by an operation, those of
// this one come from a clock. A directory's size is its file system's affair.
func describe(st *unix.Stat_t) string {
	size := st.Size
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	return fmt.Sprintf("mode %o, %d links, owner %d:%d, %d bytes, modified %s", st.Mode, st.Nlink, st.Uid, st.Gid, size, moment(st.Mtim))
}

func moment(t unix.Timespec) string {
	const year2005 = 1_104_537_600
	if t.Sec > year2005 {
		return "lately"
	}
	return fmt.Sprintf("at %d.%09d", t.Sec, t.Nsec)
}

// list returns the names in a directory, in the order of its listing, read with a buffer of size bytes.
func list(path string, size int) (names []string, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, size)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return names, err
		}
		for b := buf[:n]; len(b) > 0; {
			length := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := strings.Cut(string(b[19:length]), "\x00")
			if name != "." && name != ".." {
				names = append(names, name)
			}
			b = b[length:]
		}
	}
}

// item is one name of a tree.
type item struct {
	path  string
	what  string // all that must be equal on both sides
	inode uint64
}

// walk returns everything in a tree, sorted by path; with is whether contents and attributes are read as well.
func walk(root string, with bool) (items []item, err error) {
	var visit func(rel string) error
	visit = func(rel string) error {
		names, err := list(filepath.Join(root, rel), 8192)
		if err != nil {
			return fmt.Errorf("list %s: %w", rel, err)
		}
		slices.Sort(names)
		for i, name := range names {
			path := filepath.Join(rel, name)
			if i > 0 && names[i-1] == name {
				return fmt.Errorf("%s is listed twice", path)
			}
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(root, path), &st); err != nil {
				return fmt.Errorf("%s is listed, but: %w", path, err)
			}
			it := item{path: path, what: describe(&st), inode: st.Ino}
			if with {
				more, err := contents(filepath.Join(root, path), &st)
				if err != nil {
					return fmt.Errorf("read %s: %w", path, err)
				}
				it.what += more
			}
			items = append(items, it)
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				if err := visit(path); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return items, visit("")
}

// contents tells what is in a file.
func contents(path string, st *unix.Stat_t) (string, error) {
	var b strings.Builder
	names, err := listXattrs(path)
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	for _, name := range names {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("attribute %s: %w", name, err)
		}
		fmt.Fprintf(&b, ", %s=%x", name, value[:n])
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target := make([]byte, 5000)
		n, err := unix.Readlink(path, target)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, ", to %s", target[:n])
	case unix.S_IFREG:
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		data, err := readAll(fd, 0)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, ", %d bytes with SHA-256 %x", len(data), sha256.Sum256(data))
	}
	return b.String(), nil
}

// compareTrees returns how two trees differ, also in which names are links of one file.
func compareTrees(plain, vault string) error {
	a, err := walk(plain, true)
	if err != nil {
		return fmt.Errorf("plain side: %w", err)
	}
	b, err := walk(vault, true)
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	same, other := make(map[uint64]uint64), make(map[uint64]uint64)
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a) || i < len(b) && b[i].path < a[i].path:
			return fmt.Errorf("the vault has %s, the plain side has not", b[i].path)
		case i >= len(b) || a[i].path < b[i].path:
			return fmt.Errorf("the plain side has %s, the vault has not", a[i].path)
		case a[i].what != b[i].what:
			return fmt.Errorf("%s differs:\nplain %s\nvault %s", a[i].path, a[i].what, b[i].what)
		}
		if n, ok := same[a[i].inode]; ok && n != b[i].inode {
			return fmt.Errorf("%s is no link to the file that it is a link to on the plain side", a[i].path)
		}
		if n, ok := other[b[i].inode]; ok && n != a[i].inode {
			return fmt.Errorf("%s has the inode number of another file", b[i].path)
		}
		same[a[i].inode], other[b[i].inode] = b[i].inode, a[i].inode
	}
	return nil
}
