// Package arena keeps keys in memory that is locked (never swapped out), left out of core dumps, fenced by guard pages
// and wiped at release. It lies outside Go's heap, so that no garbage collection copies or keeps a key.
package arena

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// KeySize is the size of a key in bytes.
	KeySize = 32
	// MaxKeys is the greatest number of keys in one arena: 2 MiB.
	MaxKeys = 1 << 16
)

var (
	// ErrFull says that the arena has no room for another key.
	ErrFull = errors.New("arena is full")
	// ErrClosed says that the arena was closed.
	ErrClosed = errors.New("arena is closed")
)

// An Arena holds a bounded number of keys. It is safe for concurrent use; only [Arena.Close] must wait until nobody
// uses the bytes of a key.
type Arena struct {
	mu      sync.Mutex
	mapping []byte // guard page, keys, guard page; nil: closed
	cells   []byte // the keys' part of mapping
	free    []int  // offsets in cells, a stack
	lockErr error
}

// Key is the place of one key in an arena.
type Key struct {
	arena *Arena
	off   int
	b     []byte // nil: released
}

// New returns an arena with room for at least n keys, at most [MaxKeys]. It fails only if the system has no memory; if
// the memory cannot be locked, the arena works all the same and [Arena.Locked] says why.
func New(n int) (*Arena, error) {
	if n < 1 || n > MaxKeys {
		return nil, fmt.Errorf("new arena for %d keys: not between 1 and %d", n, MaxKeys)
	}
	page := os.Getpagesize()
	size := (n*KeySize + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("new arena: mmap: %w", err)
	}
	cells := m[page : page+size : page+size]
	if err := unix.Mprotect(cells, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		unix.Munmap(m)
		return nil, fmt.Errorf("new arena: mprotect: %w", err)
	}
	a := &Arena{mapping: m, cells: cells}
	if err := unix.Madvise(cells, unix.MADV_DONTDUMP); err != nil {
		a.lockErr = fmt.Errorf("leave keys out of core dumps: %w", err)
	}
	if err := unix.Mlock(cells); err != nil {
		a.lockErr = fmt.Errorf("lock keys in memory (ulimit -l): %w", err)
	}
	for off := size - KeySize; off >= 0; off -= KeySize {
		a.free = append(a.free, off)
	}
	return a, nil
}

// Locked returns nil if the memory is locked and left out of core dumps, or else why it is not: keys may then reach
// the swap space or a dump, which the user should be told.
func (a *Arena) Locked() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lockErr
}

// Alloc returns a key of 32 zero bytes, to be filled by the caller. It returns [ErrFull] or [ErrClosed].
func (a *Arena) Alloc() (*Key, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mapping == nil {
		return nil, ErrClosed
	}
	if len(a.free) == 0 {
		return nil, ErrFull
	}
	off := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	return &Key{arena: a, off: off, b: a.cells[off : off+KeySize : off+KeySize]}, nil
}

// Close wipes all keys and unmaps the memory. Whoever still touches a key's bytes then crashes, which is better than to
// go on with a key of zeros: call it when nobody does. Closing twice is allowed.
func (a *Arena) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mapping == nil {
		return
	}
	a.wipe()
	unix.Munmap(a.mapping) // unlocks too
	a.mapping, a.cells, a.free = nil, nil, nil
}

func (a *Arena) wipe() { clear(a.cells) }

// Bytes returns the 32 bytes of the key, in the arena's memory: nil after Free or the arena's Close. They must not be
// kept beyond either.
func (k *Key) Bytes() []byte {
	k.arena.mu.Lock()
	defer k.arena.mu.Unlock()
	if k.arena.mapping == nil {
		return nil
	}
	return k.b
}

// Free wipes the key and gives its place back. Freeing twice, or after the arena's Close, does nothing.
func (k *Key) Free() {
	a := k.arena
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mapping == nil || k.b == nil {
		return
	}
	clear(k.b)
	k.b = nil
	a.free = append(a.free, k.off)
}
