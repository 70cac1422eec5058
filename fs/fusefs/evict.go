package fusefs

import (
	"context"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/blockcrypt"
)

// evictShare is which part of the nodes is given up at a time: one of this many.
const evictShare = 16

// pruneBatch is how many nodes one notification names.
const pruneBatch = 512

// notifier is what eviction needs of the kernel's connection.
type notifier interface {
	PruneNotify(nodes []uint64) fuse.Status
	EntryNotify(parent uint64, name string) fuse.Status
}

// victim is a node that the kernel is asked to forget.
type victim struct {
	id, parent uint64
	name       string
	dir        bool
}

// evict asks the kernel to forget the oldest nodes whenever there are too many, until ctx ends. The kernel keeps those
// in use; for the others it sends FORGET. It runs on a goroutine of its own because the kernel may wait for requests
// to be answered before it takes a notification.
func (t *nodes) evict(ctx context.Context, kernel notifier) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.full:
		}
		victims := t.oldest()
		if t.keepNames {
			for _, v := range victims {
				// Dropping the name of a directory that is somebody's working directory would cut it off.
				if !v.dir && ctx.Err() == nil {
					kernel.EntryNotify(v.parent, v.name)
				}
			}
			continue
		}
		ids := make([]uint64, 0, pruneBatch)
		for i, v := range victims {
			ids = append(ids, v.id)
			if len(ids) < pruneBatch && i < len(victims)-1 {
				continue
			}
			if ctx.Err() != nil {
				return
			}
			kernel.PruneNotify(ids)
			ids = ids[:0]
		}
	}
}

// oldest returns the nodes that were looked up the longest time ago: a share, and what is too many if that is not much
// more. It makes them the youngest, so that those which the kernel keeps do not come first again. The next eviction is
// due when half a share has been added.
func (t *nodes) oldest() []victim {
	t.mu.Lock()
	defer t.mu.Unlock()
	share := max(t.max/evictShare, 1)
	var all []victim
	for range share + min(max(len(t.byID)-t.max, 0), 3*share) {
		n := t.order.next
		if n == &t.order {
			break
		}
		n.unlink()
		t.push(n)
		all = append(all, victim{id: n.id, parent: n.parent, name: n.name, dir: n.ino.Type() == blockcrypt.TypeDirectory})
	}
	t.mark = max(t.max, len(t.byID)) + share/2
	return all
}
