package crash

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"envfs/blockcrypt"
)

const pageSize = 4096

var hashSeed = maphash.MakeSeed()

// page is a part of a file's content; it never changes, so that versions of a file share what they have in common.
type page struct {
	data [pageSize]byte
	sum  uint64
}

var zeroSum = new(page).seal().sum

func (p *page) seal() *page {
	p.sum = maphash.Bytes(hashSeed, p.data[:])
	return p
}

// content is what a file holds; nil pages are zeros. It never changes.
type content struct {
	size  int64
	pages []*page
}

func (c content) write(off int64, data []byte) content {
	c.size = max(c.size, off+int64(len(data)))
	pages := make([]*page, (c.size+pageSize-1)/pageSize)
	copy(pages, c.pages)
	for len(data) > 0 {
		i, within := off/pageSize, off%pageSize
		p := new(page)
		if pages[i] != nil {
			p.data = pages[i].data
		}
		n := copy(p.data[within:], data)
		pages[i] = p.seal()
		off, data = off+int64(n), data[n:]
	}
	c.pages = pages
	return c
}

func (c content) truncate(size int64) content {
	pages := make([]*page, (size+pageSize-1)/pageSize)
	copy(pages, c.pages)
	if within := size % pageSize; size < c.size && within != 0 && pages[len(pages)-1] != nil {
		p := new(page)
		copy(p.data[:within], pages[len(pages)-1].data[:])
		pages[len(pages)-1] = p.seal()
	}
	return content{size, pages}
}

func (c content) bytes() []byte {
	b := make([]byte, c.size)
	for i, p := range c.pages {
		if p != nil {
			copy(b[i*pageSize:], p.data[:])
		}
	}
	return b
}

// sum tells contents apart.
func (c content) sum() uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	maphash.WriteComparable(&h, c.size)
	for _, p := range c.pages {
		s := zeroSum
		if p != nil {
			s = p.sum
		}
		maphash.WriteComparable(&h, s)
	}
	return h.Sum64()
}

// inode is a version of a file, directory or symbolic link. It never changes after seal.
type inode struct {
	typ    blockcrypt.FileType
	mode   uint32
	mtime  int64 // nanoseconds
	target string
	xattrs map[string]string
	data   content

	sum uint64
}

// seal computes what tells versions apart.
func (n *inode) seal() *inode {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	maphash.WriteComparable(&h, struct {
		typ   blockcrypt.FileType
		mode  uint32
		mtime int64
		data  uint64
	}{n.typ, n.mode, n.mtime, n.data.sum()})
	h.WriteString(n.target)
	for _, name := range slices.Sorted(maps.Keys(n.xattrs)) {
		fmt.Fprintf(&h, "\x00%s\x00%s", name, n.xattrs[name])
	}
	n.sum = h.Sum64()
	return n
}

// edit returns a changed copy.
func (n *inode) edit(change func(n *inode)) *inode {
	c := *n
	change(&c)
	return c.seal()
}

func (n *inode) String() string {
	return fmt.Sprintf("type %d mode %o size %d mtime %d target %q xattrs %d content %x", n.typ, n.mode, n.data.size, n.mtime,
		n.target, len(n.xattrs), n.data.sum()&0xffff)
}

// tree is a state of a file system: what each path ("" is the top) stands for. It is not changed once it is part of a
// history.
type tree struct {
	names  map[string]int
	inodes map[int]*inode // also of open files without a name
	slots  string         // the labels of those that open the vault, in order; empty: not looked at

	sum uint64 // of the paths
}

func (t *tree) clone() *tree {
	return &tree{names: maps.Clone(t.names), inodes: maps.Clone(t.inodes), slots: t.slots}
}

// seal computes what tells sets of paths apart.
func (t *tree) seal() *tree {
	t.sum = 0
	for path := range t.names {
		t.sum += maphash.String(hashSeed, path)
	}
	return t
}

func (t *tree) at(path string) *inode { return t.inodes[t.names[path]] }

func (t *tree) has(path string) bool {
	_, ok := t.names[path]
	return ok
}

func parentOf(path string) string { return path[:max(0, strings.LastIndexByte(path, '/'))] }

func baseOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// touch sets a directory's time of change.
func (t *tree) touch(path string, now int64) {
	t.change(t.names[path], func(n *inode) { n.mtime = now })
}

func (t *tree) change(id int, change func(n *inode)) { t.inodes[id] = t.inodes[id].edit(change) }

// add makes a new inode at path.
func (t *tree) add(path string, id int, n *inode) {
	t.names[path], t.inodes[id] = id, n.seal()
	t.touch(parentOf(path), n.mtime)
}

// remove takes a name away.
func (t *tree) remove(path string, now int64) {
	delete(t.names, path)
	t.touch(parentOf(path), now)
}

// rename moves a name, and all below it.
func (t *tree) rename(from, to string, now int64) {
	delete(t.names, to)
	for path, id := range maps.Clone(t.names) {
		if path == from || strings.HasPrefix(path, from+"/") {
			delete(t.names, path)
			t.names[to+path[len(from):]] = id
		}
	}
	t.touch(parentOf(from), now)
	t.touch(parentOf(to), now)
}

func (t *tree) empty(path string) bool {
	for p := range t.names {
		if strings.HasPrefix(p, path+"/") {
			return false
		}
	}
	return true
}

// diff tells how got differs from t, at most a few lines; nil if it does not. versions holds, for files that were being
// written, the further contents that may be there.
func (t *tree) diff(got *tree, versions map[int][]*inode) (lines []string) {
	for _, path := range slices.Sorted(maps.Keys(t.names)) {
		if !got.has(path) {
			lines = append(lines, fmt.Sprintf("%s is missing", path))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got.names)) {
		if !t.has(path) {
			lines = append(lines, fmt.Sprintf("%s should not be there: %v", path, got.at(path)))
		}
	}
	if !t.sameSlots(got) {
		lines = append(lines, fmt.Sprintf("slots %s open the vault\n\twant %s", got.slots, t.slots))
	}
	same := make(map[int]int)
	for _, path := range slices.Sorted(maps.Keys(t.names)) {
		id, gotID := t.names[path], got.names[path]
		if !got.has(path) {
			continue
		}
		if other, ok := same[id]; ok && other != gotID {
			lines = append(lines, fmt.Sprintf("%s has lost its other names", path))
		}
		same[id] = gotID
		if !matches(got.inodes[gotID], t.inodes[id], versions[id]) {
			line := fmt.Sprintf("%s is %v\n\twant %v", path, got.inodes[gotID], t.inodes[id])
			for _, v := range versions[id] {
				line += fmt.Sprintf("\n\tor   %v", v)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// equal reports whether got is t, or one of the versions of each file.
func (t *tree) equal(got *tree, versions map[int][]*inode) bool {
	if t.sum != got.sum || len(t.names) != len(got.names) || !t.sameSlots(got) {
		return false
	}
	same, back := make(map[int]int), make(map[int]int)
	for path, id := range t.names {
		gotID, ok := got.names[path]
		if !ok {
			return false
		}
		if other, ok := same[id]; ok && other != gotID {
			return false
		}
		if other, ok := back[gotID]; ok && other != id {
			return false
		}
		same[id], back[gotID] = gotID, id
		if !matches(got.inodes[gotID], t.inodes[id], versions[id]) {
			return false
		}
	}
	return true
}

// sameSlots reports whether the vault is opened by the same, as far as both have been looked at.
func (t *tree) sameSlots(got *tree) bool {
	return t.slots == "" || got.slots == "" || t.slots == got.slots
}

// matches reports whether got is one of the versions; want counts if there are none.
func matches(got, want *inode, versions []*inode) bool {
	if versions == nil {
		return got.sum == want.sum
	}
	return slices.ContainsFunc(versions, func(v *inode) bool { return v.sum == got.sum })
}
