package journal_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"

	"envfs/remote"
)

// memStore is a remote.Local in memory that knows what a power loss would leave of it.
type memStore struct {
	remote.Local // what the journal does not use
	mu           sync.Mutex
	objects      map[string]*memObject
	fail         func(op, name string) error // asked before each operation
	syncing      func()                      // called while a file is synced
}

type memObject struct {
	data   []byte
	synced int  // bytes that are durable
	named  bool // the name is durable
}

func newMemStore() *memStore { return &memStore{objects: make(map[string]*memObject)} }

func (s *memStore) check(op, name string) error {
	if s.fail == nil {
		return nil
	}
	return s.fail(op, name)
}

func (s *memStore) ReadAt(_ context.Context, name string, p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("read", name); err != nil {
		return 0, err
	}
	o := s.objects[name]
	if o == nil {
		return 0, fmt.Errorf("read %s: %w", name, remote.ErrNotExist)
	}
	if off > int64(len(o.data)) {
		return 0, io.EOF
	}
	n := copy(p, o.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *memStore) List(_ context.Context, prefix string, fn func(remote.Info) error) error {
	s.mu.Lock()
	var all []remote.Info
	for name, o := range s.objects {
		if strings.HasPrefix(name, prefix) {
			all = append(all, remote.Info{Name: name, Size: int64(len(o.data))})
		}
	}
	s.mu.Unlock()
	if err := s.check("list", prefix); err != nil {
		return err
	}
	for _, i := range all {
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *memStore) Create(_ context.Context, name string) (remote.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("create", name); err != nil {
		return nil, err
	}
	if s.objects[name] != nil {
		return nil, fmt.Errorf("create %s: %w", name, remote.ErrExist)
	}
	o := &memObject{}
	s.objects[name] = o
	return &memFile{s, name, o}, nil
}

func (s *memStore) Sync(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check("syncnames", ""); err != nil {
		return err
	}
	for _, o := range s.objects {
		o.named = true
	}
	return nil
}

type memFile struct {
	s    *memStore
	name string
	o    *memObject
}

func (f *memFile) Append(p []byte) error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.s.check("append", f.name); err != nil {
		f.o.data = append(f.o.data, p[:len(p)/2]...)
		return err
	}
	f.o.data = append(f.o.data, p...)
	return nil
}

func (f *memFile) Reserve(int64) error { return f.s.check("reserve", f.name) }

func (f *memFile) Sync() error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.s.check("sync", f.name); err != nil {
		return err
	}
	n := len(f.o.data)
	if f.s.syncing != nil {
		f.s.mu.Unlock()
		f.s.syncing()
		f.s.mu.Lock()
	}
	f.o.synced = n
	return nil
}

func (f *memFile) Close() error { return nil }

// clone returns a copy of the store as it is: what a kill -9 leaves.
func (s *memStore) clone() *memStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := newMemStore()
	for name, o := range s.objects {
		c.objects[name] = &memObject{data: append([]byte(nil), o.data...), synced: o.synced, named: o.named}
	}
	return c
}

// crash returns what a power loss may leave: un-synced names and sectors of un-synced data are lost at random.
func (s *memStore) crash(rng *rand.Rand) *memStore {
	const sector = 512
	c := s.clone()
	for name, o := range c.objects {
		if !o.named && rng.IntN(2) == 0 {
			delete(c.objects, name)
			continue
		}
		keep := o.synced
		if n := len(o.data) - o.synced; n > 0 && rng.IntN(4) > 0 {
			keep += rng.IntN(n + 1)
			if rng.IntN(2) == 0 {
				keep = min(len(o.data), (keep+sector-1)/sector*sector)
			}
		}
		o.data = o.data[:keep]
		if rng.IntN(2) == 0 { // holes: later sectors reached the disk, earlier ones did not
			for at := (o.synced + sector - 1) / sector * sector; at < len(o.data); at += sector {
				if rng.IntN(8) == 0 {
					clear(o.data[at:min(len(o.data), at+sector)])
				}
			}
		}
		o.synced, o.named = len(o.data), true
	}
	return c
}
