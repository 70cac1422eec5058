package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"envfs/blockcrypt"
	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
)

// node is a file in a vault as `envfs ls` shows it.
type node struct {
	Name   string    `json:"name"`
	Bytes  []byte    `json:"name_bytes,omitempty"` // the name as it is, if it is not UTF-8 and JSON cannot hold it
	Type   string    `json:"type"`                 // "file", "directory" or "symlink"
	Mode   uint32    `json:"mode"`                 // 07777
	Nlink  uint32    `json:"nlink"`
	UID    uint32    `json:"uid"`
	GID    uint32    `json:"gid"`
	Size   uint64    `json:"size"`
	Mtime  time.Time `json:"mtime"`
	Target string    `json:"target,omitempty"`
	To     []byte    `json:"target_bytes,omitempty"` // likewise
}

// The types of nodes.
const (
	typeFile      = "file"
	typeDirectory = "directory"
	typeSymlink   = "symlink"
)

// tree is a vault to be read, mounted or not. Paths are relative to its top, "." is the top; a link at the end of a path
// is not followed.
type tree interface {
	stat(ctx context.Context, name string) (node, error)
	list(ctx context.Context, name string) ([]node, error) // in no certain order; what could be read also beside an error
	read(ctx context.Context, name string, w io.Writer) error
}

// withTree calls fn with the vault in the store that arg names: through the mount if this user has mounted it, else
// opened for reading.
func (a *app) withTree(ctx context.Context, arg string, src *secret.Source, fn func(tree) error) error {
	store, err := storePath(arg)
	if err != nil {
		return err
	}
	clients, err := control.Find(func(h control.Hello) bool { return h.Store == storeName(store) && h.Root == "" })
	if err != nil {
		return err
	}
	for _, c := range clients {
		defer c.Close()
	}
	for _, c := range clients {
		if root := openMount(c.Hello.Mountpoint); root != nil {
			defer root.Close()
			return fn(mountedTree{root})
		}
	}
	return a.withVault(ctx, store, src, func(v *vault) error { return fn(vaultTree{v.FS}) })
}

// openMount opens the top of a mount, or returns nil if nothing is mounted at that place any more: a daemon answers
// until all is on disk.
func openMount(path string) *os.Root {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil
	}
	top, err := root.Open(".")
	if err == nil {
		var st unix.Statfs_t
		if err = unix.Fstatfs(int(top.Fd()), &st); err == nil && st.Type != unix.FUSE_SUPER_MAGIC {
			err = errNotMounted
		}
		top.Close()
	}
	if err != nil {
		root.Close()
		return nil
	}
	return root
}

// inTree returns a path as a user writes it, relative to the top.
func inTree(arg string) string {
	p := strings.TrimPrefix(path.Clean("/"+arg), "/")
	if p == "" {
		return "."
	}
	return p
}

// mountedTree reads through a mount.
type mountedTree struct{ root *os.Root }

func (t mountedTree) stat(_ context.Context, name string) (node, error) {
	info, err := t.root.Lstat(name)
	if err != nil {
		return node{}, err
	}
	return t.node(name, info)
}

func (t mountedTree) node(name string, info os.FileInfo) (node, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return node{}, fmt.Errorf("stat %s: %w", name, errors.ErrUnsupported)
	}
	n := node{Name: info.Name(), Type: typeFile, Mode: st.Mode & 0o7777, Nlink: uint32(st.Nlink), UID: st.Uid, GID: st.Gid,
		Size: uint64(info.Size()), Mtime: info.ModTime()}
	switch {
	case info.IsDir():
		n.Type = typeDirectory
	case info.Mode()&os.ModeSymlink != 0:
		n.Type = typeSymlink
		var err error
		if n.Target, err = t.root.Readlink(name); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (t mountedTree) list(_ context.Context, name string) ([]node, error) {
	d, err := t.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.Readdirnames(-1)
	var all []node
	for _, e := range entries {
		n, serr := t.stat(context.Background(), path.Join(name, e))
		if errors.Is(serr, iofs.ErrNotExist) {
			continue // removed meanwhile
		}
		if serr != nil {
			err = errors.Join(err, serr)
			continue
		}
		all = append(all, n)
	}
	return all, err
}

func (t mountedTree) read(_ context.Context, name string, w io.Writer) error {
	f, err := t.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// vaultTree reads an open vault.
type vaultTree struct{ fs *fs.FS }

func (t vaultTree) stat(ctx context.Context, name string) (node, error) {
	ino, st, err := t.fs.Resolve(ctx, name)
	if err != nil {
		return node{}, err
	}
	defer t.fs.Forget(ino, 1)
	return t.node(ctx, path.Base(name), ino, st)
}

func (t vaultTree) node(ctx context.Context, name string, ino *fs.Inode, st fs.Stat) (node, error) {
	n := node{Name: name, Type: typeFile, Mode: st.Mode, Nlink: st.Nlink, UID: st.UID, GID: st.GID, Size: st.Size,
		Mtime: time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))}
	switch st.Type {
	case blockcrypt.TypeDirectory:
		n.Type = typeDirectory
	case blockcrypt.TypeSymlink:
		n.Type = typeSymlink
		var err error
		if n.Target, err = t.fs.Readlink(ctx, ino); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (t vaultTree) list(ctx context.Context, name string) ([]node, error) {
	dir, st, err := t.fs.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	defer t.fs.Forget(dir, 1)
	if st.Type != blockcrypt.TypeDirectory {
		return nil, fmt.Errorf("list %s: %w", name, fs.ErrNotDir)
	}
	var names []string
	err = t.fs.ReadDir(ctx, dir, 0, func(e fs.DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	var all []node
	for _, e := range names {
		ino, st, lerr := t.fs.Lookup(ctx, dir, e)
		var n node
		if lerr == nil {
			n, lerr = t.node(ctx, e, ino, st)
			t.fs.Forget(ino, 1)
		}
		if lerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", printable(path.Join(name, e)), lerr))
			continue
		}
		all = append(all, n)
	}
	return all, err
}

// copyBuffer is how much is read at once, in bytes.
const copyBuffer = 1 << 20

func (t vaultTree) read(ctx context.Context, name string, w io.Writer) error {
	ino, _, err := t.fs.Resolve(ctx, name)
	if err != nil {
		return err
	}
	defer t.fs.Forget(ino, 1)
	h, err := t.fs.Open(ctx, ino)
	if err != nil {
		return err
	}
	defer h.Close()
	buf := make([]byte, copyBuffer)
	for off := int64(0); ; {
		n, err := h.ReadAt(ctx, buf, off)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
}

// byName orders nodes by name.
func byName(all []node) {
	slices.SortFunc(all, func(a, b node) int { return strings.Compare(a.Name, b.Name) })
}
