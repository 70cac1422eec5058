package main

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/tests/bench/lab"
)

const (
	// maxRequest is the size of the largest READ and WRITE, in bytes.
	maxRequest = 1 << 20
	// emptyCacheTime is how long the kernel may believe what it was told.
	emptyCacheTime = 24 * time.Hour
)

// emptyFS answers the kernel's requests with the least possible work: it keeps names, attributes and sizes in memory,
// drops what is written and reads zeros. The kernel is told to keep as much as envfs tells it. There are regular files
// and directories only, and no renaming.
type emptyFS struct {
	fuse.RawFileSystem
	zeros [maxRequest]byte

	mu    sync.Mutex
	nodes map[uint64]*emptyNode
	last  uint64 // number of the newest node
}

// emptyNode is a file or a directory.
type emptyNode struct {
	attr   fuse.Attr
	parent uint64
	names  map[string]*emptyName // of a directory
	list   []*emptyName          // the same, by number
}

// emptyName is a name in a directory. Its cookie when listing is the number of its node, which is never used again.
type emptyName struct {
	name string
	node *emptyNode
}

func newEmptyFS() *emptyFS {
	f := &emptyFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), nodes: make(map[uint64]*emptyNode)}
	f.add(fuse.FUSE_ROOT_ID, syscall.S_IFDIR|0o755, fuse.Owner{Uid: uint32(syscall.Getuid()), Gid: uint32(syscall.Getgid())})
	f.last = firstCookie
	return f
}

func (f *emptyFS) String() string { return "empty" }

// add makes a node.
func (f *emptyFS) add(parent uint64, mode uint32, owner fuse.Owner) *emptyNode {
	f.last++
	now := time.Now()
	n := &emptyNode{parent: parent, attr: fuse.Attr{Ino: f.last, Mode: mode, Nlink: 1, Owner: owner, Blksize: lab.BlockSize}}
	n.attr.SetTimes(&now, &now, &now)
	if n.dir() {
		n.attr.Nlink = 2
		n.names = make(map[string]*emptyName)
	}
	f.nodes[f.last] = n
	return n
}

func (n *emptyNode) dir() bool { return n.attr.Mode&syscall.S_IFMT == syscall.S_IFDIR }

func (n *emptyNode) resize(size uint64) {
	n.attr.Size, n.attr.Blocks = size, (size+511)/512
}

func (n *emptyNode) answer(out *fuse.EntryOut) {
	out.NodeId = n.attr.Ino
	out.SetEntryTimeout(emptyCacheTime)
	out.SetAttrTimeout(emptyCacheTime)
	out.Attr = n.attr
}

// make answers a request that makes a name.
func (f *emptyFS) make(h *fuse.InHeader, mode uint32, name string, out *fuse.EntryOut) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir := f.nodes[h.NodeId]
	if dir == nil {
		return fuse.ENOENT
	}
	if dir.names[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	n := f.add(h.NodeId, mode, fuse.Owner{Uid: h.Uid, Gid: h.Gid})
	e := &emptyName{name, n}
	dir.names[name] = e
	dir.list = append(dir.list, e)
	n.answer(out)
	return fuse.OK
}

// remove answers a request that removes a name.
func (f *emptyFS) remove(h *fuse.InHeader, name string) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir := f.nodes[h.NodeId]
	if dir == nil || dir.names[name] == nil {
		return fuse.ENOENT
	}
	n := dir.names[name].node
	if len(n.list) > 0 {
		return fuse.Status(syscall.ENOTEMPTY)
	}
	delete(dir.names, name)
	i := dir.after(n.attr.Ino - 1)
	dir.list = slices.Delete(dir.list, i, i+1)
	n.attr.Nlink = 0
	return fuse.OK
}

// after returns the index in list of the first name whose cookie is higher.
func (n *emptyNode) after(cookie uint64) int {
	i, _ := slices.BinarySearchFunc(n.list, cookie+1, func(e *emptyName, c uint64) int {
		switch {
		case e.node.attr.Ino < c:
			return -1
		case e.node.attr.Ino > c:
			return 1
		}
		return 0
	})
	return i
}

// Forget lets go of a file that has no name any more.
func (f *emptyFS) Forget(node, _ uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[node]; n != nil && n.attr.Nlink == 0 {
		delete(f.nodes, node)
	}
}
