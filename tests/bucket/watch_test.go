package bucket

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"envfs/tests/command"
)

// pair is two files that are always written in one order, the same number into each, and a follower that reads them in the
// other order all the time: so it never sees more in the second than in the first, nor less than it has seen.
type pair struct {
	t        *testing.T
	follower *command.Vault
	next     uint64
	reads    atomic.Int64
	seen     atomic.Uint64
	over     chan struct{}
	watching sync.WaitGroup
}

var pairNames = [2]string{"first", "second"}

// write writes the next number.
func (p *pair) write(dir string) error {
	p.next++
	for _, name := range pairNames {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", numbered(p.next), 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// watch begins to follow.
func (p *pair) watch(follower *command.Vault) {
	p.follower, p.over = follower, make(chan struct{})
	must(p.t, follower.Mount("--follow"))
	p.watching.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		last := uint64(0)
		for {
			select {
			case <-p.over:
				return
			case <-tick.C:
			}
			second, ok := p.read(pairNames[1])
			if !ok {
				continue
			}
			if first, ok := p.read(pairNames[0]); ok && first < second {
				p.t.Errorf("a follower sees %d, and before that %d in what is written later", first, second)
			}
			if second < last {
				p.t.Errorf("a follower sees %d after %d", second, last)
			}
			last = second
			p.seen.Store(second)
		}
	})
}

// read reads a number. ok is false while the bucket is away.
func (p *pair) read(name string) (n uint64, ok bool) {
	data, err := os.ReadFile(filepath.Join(p.follower.Point, name))
	if err == nil {
		n, err = number(data)
	} else if errors.Is(err, syscall.EIO) {
		return 0, false
	}
	if err != nil {
		p.t.Errorf("a follower reads %s: %v", name, err)
	}
	p.reads.Add(1)
	return n, err == nil
}

// end ends following.
func (p *pair) end() {
	close(p.over)
	p.watching.Wait()
	must(p.t, p.follower.Unmount())
}
