// Package model runs random operations against a plain directory and against a mounted vault, and compares each
// result, errno included, and from time to time the whole trees.
package model

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// side is one of the two trees, with the files that are open in it. Both sides have the same files at the same places
// of the list.
type side struct {
	root  string
	files []int
	vault bool

	// kernelTimes: the kernel keeps the times of this side (its writeback cache). Then truncate(2) to the size that a file
	// has leaves them, and nobody tells the daemon (Linux, fuse_do_setattr).
	kernelTimes bool
}

func (s *side) path(name string) string { return filepath.Join(s.root, name) }

// outcome is what an operation has done, as far as the two sides must agree.
type outcome struct {
	err  error // an errno or nil
	n    int64
	data string
}

func (o outcome) String() string {
	if o.err != nil {
		return fmt.Sprintf("error %v", o.err)
	}
	if len(o.data) > 64 {
		return fmt.Sprintf("%d, %d bytes with SHA-256 %x", o.n, len(o.data), sha256.Sum256([]byte(o.data)))
	}
	return fmt.Sprintf("%d, %q", o.n, o.data)
}

// failed is the outcome of an operation that only has an error.
func failed(err error) outcome { return outcome{err: err} }

// op is one operation, to be done on either side.
type op struct {
	name  string
	do    func(s *side) outcome
	paths []string // what it may have changed
	opens bool     // its number is a new file descriptor, which is the same on no two sides
}

// pick is one kind of operation and how often it is chosen.
type pick struct {
	weight int
	make   func(g *generator) op
}

// pattern returns n bytes that can be told from those of another seed.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed*2 + 1
	for i := range b {
		if i%8 == 0 {
			x = x*6364136223846793005 + 1442695040888963407
		}
		b[i] = byte(x >> (8 * (i % 8)))
	}
	return b
}

// readAll reads a descriptor from off to the end of the file.
func readAll(fd int, off int64) ([]byte, error) {
	var all []byte
	buf := make([]byte, 256<<10)
	for {
		n, err := unix.Pread(fd, buf, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return all, err
		}
		all = append(all, buf[:n]...)
		off += int64(n)
	}
}

// listXattrs returns the names of extended attributes, without those that the machine's security policy adds.
func listXattrs(path string) (names []string, err error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if strings.HasPrefix(name, "user.") {
			names = append(names, name)
		}
	}
	return names, nil
}
