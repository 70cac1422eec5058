package fusefs

import (
	"sync"

	"envfs/fs"
)

// rootNode is the kernel's number of the top directory.
const rootNode = 1

// node is a file that the kernel knows. Each lookup that the kernel counts is one reference to the inode.
type node struct {
	id      uint64
	ino     *fs.Inode
	lookups uint64

	// Where it was last found, for kernels that forget by name only.
	parent uint64
	name   string

	prev, next *node // in the order in which they were last looked up
}

// nodes maps the kernel's node numbers to inodes. Numbers count up and are never used again, so that no reply or
// FORGET that is under way can mean another file. The number of an inode is its Tag; both are changed under mu only,
// which is never held while package fs or the kernel is called.
type nodes struct {
	drop      func(ino *fs.Inode, n uint64) // gives references back; called without mu
	max       int
	keepNames bool

	mu    sync.RWMutex
	byID  map[uint64]*node
	last  uint64 // highest number given
	order node   // ring; next is the oldest
	mark  int    // above this size eviction is asked for
	full  chan struct{}
}

func newNodes(root *fs.Inode, drop func(*fs.Inode, uint64), max int) *nodes {
	t := &nodes{drop: drop, max: max, mark: max, byID: make(map[uint64]*node), last: rootNode, full: make(chan struct{}, 1)}
	t.order.prev, t.order.next = &t.order, &t.order
	root.Tag.Store(rootNode)
	t.byID[rootNode] = &node{id: rootNode, ino: root} // not in the ring: never forgotten
	return t
}

// get returns the inode of a node, or nil if the kernel asks for one that it does not know.
func (t *nodes) get(id uint64) *fs.Inode {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n := t.byID[id]; n != nil {
		return n.ino
	}
	return nil
}

// bind takes over a reference to ino, which was found as name in the directory parent, and returns its node number.
func (t *nodes) bind(ino *fs.Inode, parent uint64, name string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[ino.Tag.Load()]
	switch {
	case n == nil:
		t.last++
		n = &node{id: t.last, ino: ino}
		t.byID[n.id] = n
		ino.Tag.Store(n.id)
		t.push(n)
		if len(t.byID) > t.mark {
			select {
			case t.full <- struct{}{}:
			default:
			}
		}
	case n.id != rootNode:
		n.unlink()
		t.push(n)
	}
	n.lookups++
	if t.keepNames {
		n.parent, n.name = parent, name
	}
	return n.id
}

// forget drops count lookups of a node, and the node with the last of them.
func (t *nodes) forget(id, count uint64) {
	t.mu.Lock()
	n := t.byID[id]
	if n == nil || id == rootNode {
		t.mu.Unlock()
		return
	}
	count = min(count, n.lookups)
	if n.lookups -= count; n.lookups == 0 {
		delete(t.byID, id)
		n.unlink()
		// Whoever looks it up from here on holds a reference of his own and gives it a new number.
		n.ino.Tag.Store(0)
		if len(t.byID) <= t.max {
			t.mark = t.max
		}
	}
	t.mu.Unlock()
	t.drop(n.ino, count)
}

// release drops every node: the kernel sends no FORGET for what it knew when the file system was unmounted.
func (t *nodes) release() {
	t.mu.Lock()
	all := t.byID
	t.byID = make(map[uint64]*node)
	t.order.prev, t.order.next = &t.order, &t.order
	for _, n := range all {
		n.ino.Tag.Store(0)
	}
	t.mu.Unlock()
	for _, n := range all {
		if n.lookups > 0 {
			t.drop(n.ino, n.lookups)
		}
	}
}

// len returns how many nodes the kernel knows.
func (t *nodes) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byID)
}

func (t *nodes) push(n *node) {
	n.prev, n.next = t.order.prev, &t.order
	n.prev.next, n.next.prev = n, n
}

func (n *node) unlink() {
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil
}
