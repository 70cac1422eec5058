package memfs

import (
	"maps"
	"strings"
	"syscall"
)

// inode is a live file or directory.
type inode struct {
	id      int
	birth   int64
	entries map[string]*inode // of a directory; nil for a file
	data    content
	links   int // names
	opens   int // descriptors

	reserved int64 // space is held for the file to grow to so many bytes
}

// held is the space that a file takes.
func (n *inode) held() int64 { return max(n.data.size, n.reserved) }

func (n *inode) isDir() bool { return n.entries != nil }

// node is an inode at rest, as images and replays hold it.
type node struct {
	birth   int64
	dir     bool
	entries map[string]int // of a directory: ids
	data    content
}

// image is a whole tree at rest: nodes by id; the root is node 0.
type image struct {
	nodes []node
}

// freeze returns the image of a live tree whose ids are below limit.
func freeze(root *inode, limit int) image {
	img := image{nodes: make([]node, limit)}
	var walk func(n *inode)
	walk = func(n *inode) {
		at := &img.nodes[n.id]
		if at.birth != 0 {
			return // a further name
		}
		*at = node{birth: n.birth, dir: n.isDir(), data: n.data.share()}
		if n.isDir() {
			at.entries = make(map[string]int, len(n.entries))
			for name, child := range n.entries {
				at.entries[name] = child.id
				walk(child)
			}
		}
	}
	walk(root)
	return img
}

// copy returns an image whose directories can be changed.
func (img image) copy(limit int) image {
	c := image{nodes: make([]node, max(limit, len(img.nodes)))}
	copy(c.nodes, img.nodes)
	for i := range c.nodes {
		n := &c.nodes[i]
		n.entries = maps.Clone(n.entries)
		n.data = n.data.share()
	}
	return c
}

// thaw makes a live tree of what can be reached in img, and returns it with the bytes that it holds.
func (img image) thaw() (root *inode, used int64) {
	live := make([]*inode, len(img.nodes))
	var walk func(id int) *inode
	walk = func(id int) *inode {
		if n := live[id]; n != nil {
			n.links++
			return n
		}
		from := &img.nodes[id]
		n := &inode{id: id, birth: from.birth, data: from.data, links: 1}
		live[id] = n
		used += n.data.size
		if from.dir {
			n.entries = make(map[string]*inode, len(from.entries))
			for name, child := range from.entries {
				n.entries[name] = walk(child)
			}
		}
		return n
	}
	return walk(0), used
}

// lookup finds what lies at a path.
func (n *inode) lookup(path string) (*inode, error) {
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, "/")
		if !n.isDir() {
			return nil, syscall.ENOTDIR
		}
		child, ok := n.entries[name]
		if !ok {
			return nil, syscall.ENOENT
		}
		n = child
	}
	return n, nil
}

// place finds the directory that holds path, or would.
func (n *inode) place(path string) (parent *inode, name string, err error) {
	i := strings.LastIndexByte(path, '/')
	if parent, err = n.lookup(path[:max(i, 0)]); err != nil {
		return nil, "", err
	}
	if !parent.isDir() {
		return nil, "", syscall.ENOTDIR
	}
	name = path[i+1:]
	if name == "" || name == "." || name == ".." {
		return nil, "", syscall.EINVAL
	}
	return parent, name, nil
}

// holds reports whether other is n or lies below it.
func (n *inode) holds(other *inode) bool {
	if n == other {
		return true
	}
	for _, child := range n.entries {
		if child.holds(other) {
			return true
		}
	}
	return false
}
