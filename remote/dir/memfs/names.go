package memfs

import (
	"syscall"

	"envfs/remote/dir"
)

// newInode makes an inode without a name.
func (m *FS) newInode(isDir bool) *inode {
	m.clock++
	n := &inode{id: m.next, birth: m.clock}
	if isDir {
		n.entries = make(map[string]*inode)
	}
	m.next++
	return n
}

// make makes a file or directory.
func (m *FS) make(kind Kind, path string) (*inode, error) {
	parent, name, err := m.root.place(path)
	if err != nil {
		return nil, err
	}
	if _, ok := parent.entries[name]; ok {
		return nil, syscall.EEXIST
	}
	op := Op{Kind: kind, Path: path, ino: m.next, at: key{parent.id, name}}
	if err := m.ask(op); err != nil {
		return nil, err
	}
	m.keepBase() // before the tree changes
	n := m.newInode(kind == OpMkdir)
	op.made = node{birth: n.birth, dir: n.isDir()}
	m.record(op)
	n.links = 1
	parent.entries[name] = n
	return n, nil
}

// Create implements dir.FS.
func (m *FS) Create(path string) (dir.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.make(OpCreate, path)
	if err != nil {
		return nil, err
	}
	n.opens++
	return &file{fs: m, path: path, n: n, writable: true}, nil
}

// Mkdir implements dir.FS.
func (m *FS) Mkdir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.make(OpMkdir, path)
	return err
}

// Open implements dir.FS.
func (m *FS) Open(path string) (dir.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.root.lookup(path)
	if err != nil {
		return nil, err
	}
	if n.isDir() {
		return nil, syscall.EISDIR
	}
	if err := m.ask(Op{Kind: OpOpen, Path: path}); err != nil {
		return nil, err
	}
	n.opens++
	return &file{fs: m, path: path, n: n}, nil
}

// ReadFile implements dir.FS.
func (m *FS) ReadFile(path string, limit int64) ([]byte, error) {
	f, err := m.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size > limit {
		return nil, syscall.EFBIG
	}
	data := make([]byte, st.Size)
	if n, err := f.ReadAt(data, 0); n < len(data) {
		return nil, err
	}
	return data, nil
}

// Rename implements dir.FS.
func (m *FS) Rename(oldpath, newpath string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldname, err := m.root.place(oldpath)
	if err != nil {
		return err
	}
	to, newname, err := m.root.place(newpath)
	if err != nil {
		return err
	}
	n, ok := from.entries[oldname]
	if !ok {
		return syscall.ENOENT
	}
	if n.isDir() && n.holds(to) {
		return syscall.EINVAL
	}
	over := to.entries[newname]
	if over == n {
		return nil
	}
	if over != nil {
		switch {
		case over.holds(from):
			return syscall.ENOTEMPTY
		case over.isDir() && !n.isDir():
			return syscall.EISDIR
		case !over.isDir() && n.isDir():
			return syscall.ENOTDIR
		case len(over.entries) > 0:
			return syscall.ENOTEMPTY
		}
	}
	op := Op{Kind: OpRename, Path: oldpath, NewPath: newpath, ino: n.id, at: key{from.id, oldname}, to: key{to.id, newname}}
	if err := m.do(op); err != nil {
		return err
	}
	delete(from.entries, oldname)
	to.entries[newname] = n
	if over != nil {
		over.links--
		m.free(over)
	}
	return nil
}

// Link implements dir.FS.
func (m *FS) Link(oldpath, newpath string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldname, err := m.root.place(oldpath)
	if err != nil {
		return err
	}
	to, newname, err := m.root.place(newpath)
	if err != nil {
		return err
	}
	n, ok := from.entries[oldname]
	if !ok {
		return syscall.ENOENT
	}
	if _, ok := to.entries[newname]; ok {
		return syscall.EEXIST
	}
	if n.isDir() {
		return syscall.EPERM
	}
	if err := m.do(Op{Kind: OpLink, Path: oldpath, NewPath: newpath, ino: n.id, at: key{to.id, newname}}); err != nil {
		return err
	}
	to.entries[newname] = n
	n.links++
	return nil
}

// Remove implements dir.FS.
func (m *FS) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, name, err := m.root.place(path)
	if err != nil {
		return err
	}
	n, ok := parent.entries[name]
	if !ok {
		return syscall.ENOENT
	}
	if len(n.entries) > 0 {
		return syscall.ENOTEMPTY
	}
	if err := m.do(Op{Kind: OpRemove, Path: path, ino: n.id, at: key{parent.id, name}}); err != nil {
		return err
	}
	delete(parent.entries, name)
	n.links--
	m.free(n)
	return nil
}

// free gives back the space of a file that nobody can reach any more.
func (m *FS) free(n *inode) {
	if n.links == 0 && n.opens == 0 {
		m.used -= n.held()
		n.data, n.reserved = content{}, 0
	}
}
