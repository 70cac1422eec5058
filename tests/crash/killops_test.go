package crash

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"envfs/blockcrypt"
)

// operations is a victim that does random operations by system calls, as a session does, with a model beside it.
type operations struct {
	root string
	gen  *session // draws; its tree is the model
	next *tree    // after the operation under way
	busy string   // the path that the operation under way writes to
}

func newOperations(root string, seed uint64) *operations {
	t := &tree{names: map[string]int{"": 0}, inodes: map[int]*inode{0: (&inode{typ: blockcrypt.TypeDirectory, mode: 0o700}).seal()}}
	return &operations{root: root, gen: &session{tree: t.seal(), nextID: 1, rng: rand.New(source(seed, 2))}}
}

func (o *operations) prepare() error {
	syscall.Umask(0)
	return os.Mkdir(o.root, 0o700)
}

func (o *operations) path(p string) string { return filepath.Join(o.root, p) }

// do does one operation; busy is the path of a file whose content it writes.
func (o *operations) do(run func() error, busy string, edit func(t *tree)) error {
	o.next, o.busy = o.gen.tree.clone(), busy
	edit(o.next)
	o.next.seal()
	if err := run(); err != nil {
		return err
	}
	o.gen.tree, o.next, o.busy = o.next, nil, ""
	return nil
}

func (o *operations) work() error {
	for {
		err := o.step()
		if brokenOffAt(o.root, err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// step does one random operation.
func (o *operations) step() error {
	g := o.gen
	switch g.rng.IntN(10) {
	case 0:
		path, ok := g.newPath()
		if !ok {
			return nil
		}
		return o.do(func() error { return os.Mkdir(o.path(path), 0o755) }, "", func(t *tree) {
			t.add(path, o.id(), &inode{typ: blockcrypt.TypeDirectory, mode: 0o755})
		})
	case 1:
		path, ok := g.newPath()
		if !ok {
			return nil
		}
		return o.do(func() error { return os.Symlink("to/"+path, o.path(path)) }, "", func(t *tree) {
			t.add(path, o.id(), &inode{typ: blockcrypt.TypeSymlink, mode: 0o777, target: "to/" + path})
		})
	case 2:
		from, ok := pick(g, g.paths(blockcrypt.TypeRegular))
		to, free := g.newPath()
		if !ok || !free {
			return nil
		}
		return o.do(func() error { return os.Link(o.path(from), o.path(to)) }, "", func(t *tree) { t.names[to] = t.names[from] })
	case 3, 4:
		from, ok := pick(g, g.paths(0))
		to, free := g.newPath()
		if over, any := pick(g, g.paths(0)); any && g.rng.IntN(2) == 0 {
			to, free = over, false
		}
		if !ok || !g.canRename(from, to, free) {
			return nil
		}
		return o.do(func() error { return syscall.Rename(o.path(from), o.path(to)) }, "", func(t *tree) { t.rename(from, to, 0) })
	case 5:
		path, ok := pick(g, g.paths(0))
		if !ok || g.tree.at(path).typ == blockcrypt.TypeDirectory && !g.tree.empty(path) {
			return nil
		}
		return o.do(func() error { return os.Remove(o.path(path)) }, "", func(t *tree) { t.remove(path, 0) })
	case 6:
		path, ok := pick(g, g.paths(blockcrypt.TypeRegular))
		if !ok {
			return nil
		}
		size := int64(g.size())
		return o.do(func() error { return os.Truncate(o.path(path), size) }, path, func(t *tree) {
			t.change(t.names[path], func(n *inode) { n.data = n.data.truncate(size) })
		})
	}
	path, ok := g.newPath()
	if old, any := pick(g, g.paths(blockcrypt.TypeRegular)); any && (len(g.tree.names) > 60 || g.rng.IntN(3) == 0) {
		path, ok = old, true
	}
	if !ok {
		return nil
	}
	return o.write(path)
}

// write makes a file, or writes into one.
func (o *operations) write(path string) error {
	g := o.gen
	data, off, sync := g.bytes(g.size()), int64(g.rng.IntN(2)*g.rng.IntN(30_000)), g.rng.IntN(6) == 0
	return o.do(func() error {
		f, err := os.OpenFile(o.path(path), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if _, err = f.WriteAt(data, off); err == nil && sync {
			err = f.Sync()
		}
		return errors.Join(err, f.Close())
	}, path, func(t *tree) {
		if !t.has(path) {
			t.add(path, o.id(), &inode{typ: blockcrypt.TypeRegular, mode: 0o644})
		}
		t.change(t.names[path], func(n *inode) { n.data = n.data.write(off, data) })
	})
}

func (o *operations) id() int {
	o.gen.nextID++
	return o.gen.nextID
}

// check compares what is there with the model before and after the operation that was under way. A file that was being
// written may hold anything.
func (o *operations) check() error {
	got, err := o.dump()
	if err != nil {
		return err
	}
	candidates := []*tree{o.gen.tree}
	if o.next != nil {
		candidates = append(candidates, o.next)
	}
	for _, want := range candidates {
		var versions map[int][]*inode
		if id, ok := want.names[o.busy]; ok && o.busy != "" && got.has(o.busy) {
			versions = map[int][]*inode{id: {got.at(o.busy)}}
		}
		if want.equal(got, versions) {
			o.gen.tree, o.next, o.busy = want.chosen(got, versions), nil, ""
			return nil
		}
	}
	return fmt.Errorf("what is there differs:\n\t%s", strings.Join(o.gen.tree.diff(got, nil), "\n\t"))
}

// dump reads the tree.
func (o *operations) dump() (*tree, error) {
	t := &tree{names: make(map[string]int), inodes: make(map[int]*inode)}
	err := filepath.WalkDir(o.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		n := &inode{mode: uint32(info.Mode().Perm())}
		switch info.Mode().Type() {
		case fs.ModeDir:
			n.typ = blockcrypt.TypeDirectory
		case fs.ModeSymlink:
			n.typ = blockcrypt.TypeSymlink
			n.target, err = os.Readlink(path)
		case 0:
			n.typ = blockcrypt.TypeRegular
			var data []byte
			data, err = os.ReadFile(path)
			n.data = readContent(data)
		}
		if err != nil {
			return err
		}
		id := int(info.Sys().(*syscall.Stat_t).Ino)
		t.names[strings.TrimPrefix(path, o.root)] = id
		t.inodes[id] = n.seal()
		return nil
	})
	return t.seal(), err
}
