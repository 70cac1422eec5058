// Package memfs is a dir.FS in memory that can lose power, for tests. It records every change; from the record it
// builds the file systems that a power loss at any moment could leave behind, as far as POSIX permits: what was not
// synced is there, or not, or torn.
package memfs

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"envfs/remote"
	"envfs/remote/dir"
)

// FS is a file system in memory. It is safe for concurrent use; the log shows one order of what ran concurrently.
type FS struct {
	mu        sync.Mutex
	root      *inode
	next      int   // id of the next inode
	clock     int64 // birth time of the last one
	used      int64 // bytes
	uuid      []byte
	copies    int
	capacity  int64
	canSyncFS bool
	hook      func(Op) error
	locked    bool

	base     *image // what was there before the first operation
	log      []Op
	decision []decision // how the power loss that this comes from went
}

var _ dir.FS = (*FS)(nil)

// New returns an empty file system of unlimited size that does not honour syncfs.
func New() *FS {
	m := &FS{uuid: []byte("memfs"), next: 1, clock: 1}
	m.root = &inode{birth: m.clock, entries: make(map[string]*inode), links: 1}
	return m
}

// SetCanSyncFS sets whether syncfs is honoured.
func (m *FS) SetCanSyncFS(can bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.canSyncFS = can
}

// SetCapacity bounds the bytes that files hold; 0: no bound. A write beyond it is cut short with ENOSPC.
func (m *FS) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Fail has hook called before each operation; if it returns an error the operation is not done and returns that. The
// hook must not call the FS. A sync that fails is logged: what it should have made durable may be lost, even if a
// later one succeeds. Nil ends it.
func (m *FS) Fail(hook func(op Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// Mark puts a note into the log, such as what the workload has been promised.
func (m *FS) Mark(label string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record(Op{Kind: OpMark, Label: label})
}

// Log returns what was done so far.
func (m *FS) Log() *Log {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keepBase()
	return &Log{base: *m.base, ops: slices.Clip(m.log), from: m, clock: m.clock}
}

// Copy returns a copy of the files as they are now on another file system (cp -a): unlocked, with an empty log, without
// bound and hook.
func (m *FS) Copy() *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copies++
	sum := sha256.Sum256(fmt.Appendf(nil, "%x copy %d", m.uuid, m.copies))
	c := &FS{uuid: sum[:16], next: m.next, clock: m.clock, canSyncFS: m.canSyncFS}
	c.root, c.used = freeze(m.root, m.next).thaw()
	return c
}

// keepBase remembers what was there before the first operation.
func (m *FS) keepBase() {
	if m.base == nil {
		img := freeze(m.root, m.next)
		m.base = &img
	}
}

// record appends to the log what is about to be done.
func (m *FS) record(op Op) {
	m.keepBase()
	op.Seq = len(m.log)
	m.log = append(m.log, op)
}

// ask calls the hook.
func (m *FS) ask(op Op) error {
	if m.hook == nil {
		return nil
	}
	op.Seq = len(m.log)
	return m.hook(op)
}

// do asks the hook, and records the operation if it is to be done.
func (m *FS) do(op Op) error {
	if err := m.ask(op); err != nil {
		return err
	}
	m.record(op)
	return nil
}

// sync is do for the syncs, which are recorded also if they fail.
func (m *FS) sync(op Op) error {
	err := m.ask(op)
	op.Failed = err != nil
	m.record(op)
	return err
}

// ReadDir implements dir.FS.
func (m *FS) ReadDir(path string) ([]dir.Stat, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.root.lookup(path)
	if err != nil {
		return nil, err
	}
	if !n.isDir() {
		return nil, syscall.ENOTDIR
	}
	if err := m.ask(Op{Kind: OpOpen, Path: path}); err != nil {
		return nil, err
	}
	list := make([]dir.Stat, 0, len(n.entries))
	for name, child := range n.entries {
		st := child.stat()
		st.Name = name
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b dir.Stat) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Stat implements dir.FS.
func (m *FS) Stat(path string) (dir.Stat, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.root.lookup(path)
	if err != nil {
		return dir.Stat{}, err
	}
	if err := m.ask(Op{Kind: OpOpen, Path: path}); err != nil {
		return dir.Stat{}, err
	}
	return n.stat(), nil
}

func (n *inode) stat() dir.Stat {
	st := dir.Stat{Mode: 0o600, Size: n.data.size, Dev: 1, Inode: uint64(n.id) + 2, Birth: time.Unix(0, n.birth)}
	if n.isDir() {
		st.Mode = fs.ModeDir | 0o700
	}
	return st
}

// SyncDir implements dir.FS.
func (m *FS) SyncDir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.root.lookup(path)
	if err != nil {
		return err
	}
	if !n.isDir() {
		return syscall.ENOTDIR
	}
	return m.sync(Op{Kind: OpSyncDir, Path: path, ino: n.id})
}

// CanSyncFS implements dir.FS.
func (m *FS) CanSyncFS() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.canSyncFS
}

// SyncFS implements dir.FS.
func (m *FS) SyncFS() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sync(Op{Kind: OpSyncFS})
}

// Space implements dir.FS.
func (m *FS) Space() (remote.Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := m.capacity
	if total == 0 {
		total = 1 << 40
	}
	free := uint64(max(total-m.used, 0))
	return remote.Space{Total: uint64(total), Free: free, Available: free, Files: 1 << 20, FreeFiles: 1 << 19}, nil
}

// UUID implements dir.FS.
func (m *FS) UUID() ([]byte, error) { return slices.Clone(m.uuid), nil }

// Lock implements dir.FS.
func (m *FS) Lock() (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return nil, syscall.EWOULDBLOCK
	}
	m.locked = true
	return &lock{fs: m}, nil
}

type lock struct {
	fs   *FS
	once sync.Once
}

func (l *lock) Close() error {
	l.once.Do(func() {
		l.fs.mu.Lock()
		defer l.fs.mu.Unlock()
		l.fs.locked = false
	})
	return nil
}
