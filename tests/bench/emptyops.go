package main

import (
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Cookies of the names that every directory has; those of others follow.
const (
	dotCookie = iota + 1
	dotDotCookie
	firstCookie
)

// The methods of fuse.RawFileSystem. Those that it does not have are answered ENOSYS by the default.
var _ fuse.RawFileSystem = (*emptyFS)(nil)

func (f *emptyFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir := f.nodes[h.NodeId]
	if dir == nil {
		return fuse.ENOENT
	}
	e := dir.names[name]
	if e == nil {
		out.SetEntryTimeout(emptyCacheTime) // also that there is none is remembered
		return fuse.OK
	}
	e.node.answer(out)
	return fuse.OK
}

func (f *emptyFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.change(in.NodeId, out, func(*emptyNode) {})
}

// change answers a request with the attributes of a node as fn leaves it.
func (f *emptyFS) change(node uint64, out *fuse.AttrOut, fn func(*emptyNode)) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[node]
	if n == nil {
		return fuse.ENOENT
	}
	fn(n)
	out.SetTimeout(emptyCacheTime)
	out.Attr = n.attr
	return fuse.OK
}

func (f *emptyFS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.change(in.NodeId, out, func(n *emptyNode) {
		if mode, ok := in.GetMode(); ok {
			n.attr.Mode = n.attr.Mode&syscall.S_IFMT | mode&0o7777
		}
		if uid, ok := in.GetUID(); ok {
			n.attr.Uid = uid
		}
		if gid, ok := in.GetGID(); ok {
			n.attr.Gid = gid
		}
		if size, ok := in.GetSize(); ok {
			n.resize(size)
		}
		if t, ok := in.GetATime(); ok {
			n.attr.SetTimes(&t, nil, nil)
		}
		if t, ok := in.GetMTime(); ok {
			n.attr.SetTimes(nil, &t, nil)
		}
	})
}

func (f *emptyFS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(&in.InHeader, syscall.S_IFDIR|in.Mode&0o7777, name, out)
}

func (f *emptyFS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return f.make(&in.InHeader, syscall.S_IFREG|in.Mode&0o7777, name, &out.EntryOut)
}

func (f *emptyFS) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.remove(h, name)
}

func (f *emptyFS) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.remove(h, name)
}

func (f *emptyFS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if in.Flags&syscall.O_ACCMODE == syscall.O_RDONLY {
		out.OpenFlags |= fuse.FOPEN_NOFLUSH
	}
	if in.Flags&syscall.O_TRUNC == 0 {
		return fuse.OK
	}
	return f.change(in.NodeId, new(fuse.AttrOut), func(n *emptyNode) { n.resize(0) })
}

func (f *emptyFS) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[in.NodeId]
	if n == nil {
		return nil, fuse.ENOENT
	}
	left := n.attr.Size - min(n.attr.Size, in.Offset)
	return fuse.ReadResultData(f.zeros[:min(left, uint64(in.Size))]), fuse.OK
}

func (f *emptyFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[in.NodeId]
	if n == nil {
		return 0, fuse.ENOENT
	}
	n.resize(max(n.attr.Size, in.Offset+uint64(len(data))))
	return uint32(len(data)), fuse.OK
}

func (f *emptyFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status    { return fuse.OK }
func (f *emptyFS) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status    { return fuse.OK }
func (f *emptyFS) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }
func (f *emptyFS) Release(<-chan struct{}, *fuse.ReleaseIn)            {}

// GetXAttr says what envfs does of a file that has none. ENOSYS would spare the kernel the question, but envfs cannot say
// that; that there are no ACLs spares ls further questions.
func (f *emptyFS) GetXAttr(_ <-chan struct{}, _ *fuse.InHeader, name string, _ []byte) (uint32, fuse.Status) {
	if strings.HasPrefix(name, "system.") {
		return 0, fuse.Status(syscall.EOPNOTSUPP)
	}
	return 0, fuse.ENOATTR
}

func (f *emptyFS) ListXAttr(<-chan struct{}, *fuse.InHeader, []byte) (uint32, fuse.Status) {
	return 0, fuse.OK
}

func (f *emptyFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.listed(in, func(e fuse.DirEntry, _ *emptyNode) bool { return out.AddDirEntry(e) })
}

func (f *emptyFS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.listed(in, func(e fuse.DirEntry, n *emptyNode) bool {
		entry := out.AddDirLookupEntry(e)
		if entry != nil && n != nil { // "." and ".." are no lookups
			n.answer(entry)
		}
		return entry != nil
	})
}

// listed calls yield for the names behind the request's offset until it returns false.
func (f *emptyFS) listed(in *fuse.ReadIn, yield func(fuse.DirEntry, *emptyNode) bool) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir := f.nodes[in.NodeId]
	if dir == nil {
		return fuse.ENOENT
	}
	if in.Offset < dotCookie && !yield(fuse.DirEntry{Name: ".", Ino: in.NodeId, Mode: syscall.S_IFDIR, Off: dotCookie}, nil) {
		return fuse.OK
	}
	if in.Offset < dotDotCookie && !yield(fuse.DirEntry{Name: "..", Ino: dir.parent, Mode: syscall.S_IFDIR, Off: dotDotCookie}, nil) {
		return fuse.OK
	}
	for _, e := range dir.list[dir.after(in.Offset):] {
		ino := e.node.attr.Ino
		if !yield(fuse.DirEntry{Name: e.name, Ino: ino, Mode: e.node.attr.Mode, Off: ino}, e.node) {
			break
		}
	}
	return fuse.OK
}
