package dir

import (
	"container/list"
	"sync"
)

// fdCache keeps the descriptors of the objects that were read last.
type fdCache struct {
	open func(name string) (File, error)
	max  int

	mu    sync.Mutex
	files map[string]*list.Element // of *cachedFile
	order list.List                // most recently used first
	drops uint64                   // how often drop was called
}

type cachedFile struct {
	File
	name string
	refs int // readers, and one for the cache
}

func newFDCache(open func(name string) (File, error), max int) *fdCache {
	return &fdCache{open: open, max: max, files: make(map[string]*list.Element)}
}

// acquire returns the open file of an object. Give it back with release.
func (c *fdCache) acquire(name string) (*cachedFile, error) {
	c.mu.Lock()
	if e, ok := c.files[name]; ok {
		f := e.Value.(*cachedFile)
		f.refs++
		c.order.MoveToFront(e)
		c.mu.Unlock()
		return f, nil
	}
	drops := c.drops
	c.mu.Unlock()

	file, err := c.open(name)
	if err != nil {
		return nil, err
	}
	f := &cachedFile{File: file, name: name, refs: 1}

	c.mu.Lock()
	defer c.mu.Unlock()
	// What was opened while something was dropped may be just that: it is used this once.
	if _, ok := c.files[name]; ok || drops != c.drops {
		return f, nil
	}
	f.refs++
	c.files[name] = c.order.PushFront(f)
	for c.order.Len() > c.max {
		c.removeLocked(c.order.Back())
	}
	return f, nil
}

// release gives back what acquire returned.
func (c *fdCache) release(f *cachedFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unrefLocked(f)
}

func (c *fdCache) unrefLocked(f *cachedFile) {
	if f.refs--; f.refs == 0 {
		_ = f.Close() // read-only: nothing is lost
	}
}

func (c *fdCache) removeLocked(e *list.Element) {
	f := c.order.Remove(e).(*cachedFile)
	delete(c.files, f.name)
	c.unrefLocked(f)
}

// drop forgets an object; who reads it goes on.
func (c *fdCache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	if e, ok := c.files[name]; ok {
		c.removeLocked(e)
	}
}

// clear forgets all objects, and keeps none from now on.
func (c *fdCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	c.max = 0
	for c.order.Len() > 0 {
		c.removeLocked(c.order.Back())
	}
}
