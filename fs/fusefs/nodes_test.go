package fusefs

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/fs"
)

func TestNodeNumbersAreNeverUsedAgain(t *testing.T) {
	dropped := make(map[*fs.Inode]uint64)
	root := new(fs.Inode)
	tab := newNodes(root, func(ino *fs.Inode, n uint64) { dropped[ino] += n }, 100)
	if tab.get(rootNode) != root {
		t.Error("the top directory is not node 1")
	}
	a, b := new(fs.Inode), new(fs.Inode)
	first := tab.bind(a, rootNode, "a")
	if again := tab.bind(a, rootNode, "a2"); again != first {
		t.Errorf("a second lookup gives number %d, want %d", again, first)
	}
	tab.forget(first, 1)
	if tab.get(first) != a {
		t.Error("forgotten too early")
	}
	tab.forget(first, 1)
	if tab.get(first) != nil || dropped[a] != 2 {
		t.Errorf("after the last lookup: inode %v, %d references given back, want none and 2", tab.get(first), dropped[a])
	}
	if n := tab.bind(b, rootNode, "b"); n <= first {
		t.Errorf("number %d was used before", n)
	}
	if n := tab.bind(a, rootNode, "a"); n <= first+1 {
		t.Errorf("number %d was used before", n)
	}
	tab.forget(rootNode, 5)
	if tab.get(rootNode) != root || dropped[root] != 0 {
		t.Error("the top directory was forgotten")
	}
	tab.release()
	if dropped[a] != 3 || dropped[b] != 1 || a.Tag.Load() != 0 {
		t.Errorf("after release: %d and %d references given back, want 3 and 1", dropped[a], dropped[b])
	}
}

// Lookups and forgets of the same inodes from many sides: every reference comes back exactly once.
func TestLookupForgetRace(t *testing.T) {
	var taken, given atomic.Int64
	tab := newNodes(new(fs.Inode), func(_ *fs.Inode, n uint64) { given.Add(int64(n)) }, 1000)
	inodes := make([]fs.Inode, 20)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	for w := range uint64(8) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, w))
			var held []uint64
			for range 5000 {
				if len(held) > 0 && rnd.IntN(2) == 0 {
					i := rnd.IntN(len(held))
					tab.forget(held[i], 1)
					held[i] = held[len(held)-1]
					held = held[:len(held)-1]
					continue
				}
				ino := &inodes[rnd.IntN(len(inodes))]
				taken.Add(1)
				id := tab.bind(ino, rootNode, "")
				if tab.get(id) != ino {
					t.Error("a node is another file than was looked up")
					return
				}
				held = append(held, id)
			}
			for _, id := range held {
				tab.forget(id, 1)
			}
		})
	}
	wg.Wait()
	if taken.Load() != given.Load() || tab.len() != 1 {
		t.Errorf("%d references taken, %d given back, %d nodes left", taken.Load(), given.Load(), tab.len())
	}
}

// forgetful is a kernel that forgets all that it is asked to, but for the nodes it has in use.
type forgetful struct {
	tab    *nodes
	used   map[uint64]bool
	rounds chan int
}

func (k *forgetful) PruneNotify(ids []uint64) fuse.Status {
	for _, id := range ids {
		if !k.used[id] {
			k.tab.forget(id, 1)
		}
	}
	k.rounds <- len(ids)
	return fuse.OK
}

func (k *forgetful) EntryNotify(uint64, string) fuse.Status { return fuse.ENOSYS }

func TestEvictionForgetsTheOldest(t *testing.T) {
	const limit = 320
	tab := newNodes(new(fs.Inode), func(*fs.Inode, uint64) {}, limit)
	kernel := &forgetful{tab: tab, used: make(map[uint64]bool), rounds: make(chan int)}
	evict := func() { // as often as it was asked for, with nothing added meanwhile
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			tab.evict(ctx, kernel)
		}()
		<-kernel.rounds
		stop()
		for {
			select {
			case <-kernel.rounds:
			case <-done:
				return
			}
		}
	}
	var ids []uint64
	add := func() {
		id := tab.bind(new(fs.Inode), rootNode, "")
		ids = append(ids, id)
	}
	for range 10 {
		add()
		kernel.used[ids[len(ids)-1]] = true
	}
	for tab.len() <= limit {
		add()
	}
	evict()
	for i, id := range ids[:limit/evictShare] {
		if kept := tab.get(id) != nil; kept != (i < 10) {
			t.Errorf("node %d of the oldest: kept %v", i, kept)
		}
	}
	for tab.len() <= limit+limit/evictShare {
		add()
	}
	evict() // the ten in use were asked for once and are now among the young
	if tab.len() > limit {
		t.Errorf("%d nodes, limit %d", tab.len(), limit)
	}
}
