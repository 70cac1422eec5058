package fs

import (
	"container/list"
	"sync"

	"envfs/blockcrypt"
)

// cache holds decoded objects of the base tree by the SHA-256 of their bytes, up to a budget of bytes. Nothing in it is
// dirty: whatever leaves can be read again. It is safe for concurrent use.
type cache struct {
	mu     sync.Mutex
	budget int64
	used   int64
	byHash map[blockcrypt.Hash]*list.Element
	recent list.List // of *cached, the most recently used first
}

type cached struct {
	hash  blockcrypt.Hash
	value any
	size  int64
}

func newCache(budget int64) *cache {
	return &cache{budget: budget, byHash: make(map[blockcrypt.Hash]*list.Element)}
}

// get returns the object with that hash, or nil.
func (c *cache) get(h blockcrypt.Hash) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byHash[h]
	if el == nil {
		return nil
	}
	c.recent.MoveToFront(el)
	return el.Value.(*cached).value
}

// put takes in an object that holds about size bytes. The newest stays whatever its size.
func (c *cache) put(h blockcrypt.Hash, value any, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.byHash[h]; el != nil {
		c.recent.MoveToFront(el)
		return
	}
	c.byHash[h] = c.recent.PushFront(&cached{h, value, size})
	c.used += size
	for c.used > c.budget && c.recent.Len() > 8 {
		last := c.recent.Back()
		old := c.recent.Remove(last).(*cached)
		delete(c.byHash, old.hash)
		c.used -= old.size
	}
}
