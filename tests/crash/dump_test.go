package crash

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/fs"
)

// dump reads the whole tree through the file system's own interface: every block, attribute and link. It checks that
// counts agree with what is there.
func dump(ctx context.Context, f *fs.FS) (*tree, error) {
	d := dumper{f: f, ids: make(map[uint64]int), t: &tree{names: make(map[string]int), inodes: make(map[int]*inode)}, nlink: make(map[int]uint32)}
	st, err := f.GetAttr(ctx, f.Root())
	if err != nil {
		return nil, err
	}
	if err := d.take(ctx, "", f.Root(), st); err != nil {
		return nil, err
	}
	count := make(map[int]uint32)
	for _, id := range d.t.names {
		count[id]++
	}
	for path, id := range d.t.names {
		if n := d.t.inodes[id]; n.typ != blockcrypt.TypeDirectory && count[id] != d.nlink[id] {
			return nil, fmt.Errorf("%s has %d names but counts %d links", path, count[id], d.nlink[id])
		}
	}
	return d.t.seal(), nil
}

type dumper struct {
	f     *fs.FS
	t     *tree
	ids   map[uint64]int // by inode number
	nlink map[int]uint32
}

// take records what lies at path.
func (d *dumper) take(ctx context.Context, path string, ino *fs.Inode, st fs.Stat) error {
	id, known := d.ids[st.Ino]
	if known && st.Type == blockcrypt.TypeDirectory {
		return fmt.Errorf("%s: a directory with two names", path)
	}
	if !known {
		id = len(d.ids)
		d.ids[st.Ino] = id
	}
	d.t.names[path] = id
	if known {
		return nil
	}
	n := &inode{typ: st.Type, mode: st.Mode, mtime: st.Mtime.Sec*1e9 + int64(st.Mtime.Nsec)}
	d.nlink[id] = st.Nlink
	if err := d.xattrs(ctx, ino, n); err != nil {
		return fmt.Errorf("%s: extended attributes: %w", path, err)
	}
	var err error
	switch st.Type {
	case blockcrypt.TypeRegular:
		n.data, err = readAll(ctx, d.f, ino, int64(st.Size))
	case blockcrypt.TypeSymlink:
		n.target, err = d.f.Readlink(ctx, ino)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	d.t.inodes[id] = n.seal()
	if st.Type == blockcrypt.TypeDirectory {
		return d.names(ctx, path, ino, st)
	}
	return nil
}

func (d *dumper) names(ctx context.Context, path string, dir *fs.Inode, st fs.Stat) error {
	var names []string
	err := d.f.ReadDir(ctx, dir, 2, func(e fs.DirEntry) bool {
		names = append(names, e.Name)
		return true
	})
	if err != nil {
		return fmt.Errorf("%s: list: %w", path, err)
	}
	if st.Size != uint64(len(names)) {
		return fmt.Errorf("%s: lists %d names but counts %d", path, len(names), st.Size)
	}
	subdirs := uint32(0)
	for _, name := range names {
		ino, cst, err := d.f.Lookup(ctx, dir, name)
		if err != nil {
			return fmt.Errorf("%s/%s: look up: %w", path, name, err)
		}
		err = d.take(ctx, path+"/"+name, ino, cst)
		d.f.Forget(ino, 1)
		if err != nil {
			return err
		}
		if cst.Type == blockcrypt.TypeDirectory {
			subdirs++
		}
	}
	if st.Nlink != 2+subdirs {
		return fmt.Errorf("%s: has %d directories but counts %d links", path, subdirs, st.Nlink)
	}
	return nil
}

func (d *dumper) xattrs(ctx context.Context, ino *fs.Inode, n *inode) error {
	names, err := d.f.ListXattr(ctx, ino)
	if err != nil || len(names) == 0 {
		return err
	}
	n.xattrs = make(map[string]string)
	for _, name := range names {
		v, err := d.f.GetXattr(ctx, ino, name)
		if err != nil {
			return err
		}
		n.xattrs[name] = string(v)
	}
	return nil
}

// readAll reads a file whole.
func readAll(ctx context.Context, f *fs.FS, ino *fs.Inode, size int64) (content, error) {
	h, err := f.Open(ctx, ino)
	if err != nil {
		return content{}, fmt.Errorf("open: %w", err)
	}
	defer h.Close()
	buf := make([]byte, size+1)
	n, err := h.ReadAt(ctx, buf, 0)
	if err != nil {
		return content{}, fmt.Errorf("read: %w", err)
	}
	if int64(n) != size {
		return content{}, errors.New("the file's end is not at its size")
	}
	return readContent(buf[:n]), nil
}

// readContent is the content of a file that holds b.
func readContent(b []byte) content {
	c := content{size: int64(len(b)), pages: make([]*page, (len(b)+pageSize-1)/pageSize)}
	for i := range c.pages {
		p := new(page)
		copy(p.data[:], b[i*pageSize:])
		c.pages[i] = p.seal()
	}
	return c
}
