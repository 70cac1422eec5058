package crash

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"envfs/blockcrypt"
)

// bytes returns n bytes that compress badly and differ from all others.
func (s *session) bytes(n int) []byte {
	p := make([]byte, n)
	x := s.rng.Uint64() | 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x >> 32)
	}
	return p
}

// size draws a length near where something changes.
func (s *session) size() int {
	edges := []int{1, 4095, 4096, 4097, 8192, 16384, 16385, 20_000, 40_000}
	if s.rng.IntN(2) == 0 {
		return edges[s.rng.IntN(len(edges))]
	}
	return 1 + s.rng.IntN(70_000)
}

// paths returns the paths of one type; 0 for all but the top.
func (s *session) paths(typ blockcrypt.FileType) []string {
	var list []string
	for path, id := range s.tree.names {
		if t := s.tree.inodes[id].typ; typ == t || typ == 0 && path != "" {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return list
}

// pick draws one of a list; ok is false if there is none.
func pick[T any](s *session, list []T) (v T, ok bool) {
	if len(list) == 0 {
		return v, false
	}
	return list[s.rng.IntN(len(list))], true
}

// newPath draws a path that is not there, in a directory that is.
func (s *session) newPath() (string, bool) {
	d, _ := pick(s, s.paths(blockcrypt.TypeDirectory))
	if strings.Count(d, "/") >= 4 {
		d = ""
	}
	path := d + "/" + string(rune('a'+s.rng.IntN(12)))
	return path, !s.tree.has(path)
}

// someHandle returns an open file, opening one if need be.
func (s *session) someHandle() (*handle, bool, error) {
	if h, ok := pick(s, s.handles); ok && (len(s.handles) >= 6 || s.rng.IntN(3) > 0) {
		return h, true, nil
	}
	path, ok := pick(s, s.paths(blockcrypt.TypeRegular))
	if !ok {
		return nil, false, nil
	}
	h, err := s.openFile(path)
	return h, err == nil, err
}

type action struct {
	weight int
	do     func(s *session) error
}

// actions is what a random workload does to files.
var actions = []action{
	{10, func(s *session) error {
		if path, ok := s.newPath(); ok {
			h, err := s.create(path)
			if err == nil && s.rng.IntN(2) == 0 {
				return s.close(h)
			}
			return err
		}
		return nil
	}},
	{16, func(s *session) error {
		h, ok, err := s.someHandle()
		if !ok {
			return err
		}
		return s.write(h, int64(s.rng.IntN(3)*s.rng.IntN(50_000)), s.bytes(s.size()))
	}},
	{5, func(s *session) error {
		if h, ok := pick(s, s.handles); ok {
			return s.flush(h)
		}
		return nil
	}},
	{5, func(s *session) error {
		if h, ok := pick(s, s.handles); ok {
			return s.fsync(h)
		}
		return nil
	}},
	{6, func(s *session) error {
		if h, ok := pick(s, s.handles); ok {
			return s.close(h)
		}
		return nil
	}},
	{6, func(s *session) error {
		path, ok := pick(s, s.paths(blockcrypt.TypeRegular))
		if !ok {
			return nil
		}
		size := s.tree.at(path).data.size
		if size == 0 || s.rng.IntN(4) == 0 {
			return s.truncate(path, int64(s.size())*int64(s.rng.IntN(2)))
		}
		// What is cut off must not come back when the file grows again.
		err := s.truncate(path, s.rng.Int64N(size))
		if err == nil && s.rng.IntN(2) == 0 {
			err = s.truncate(path, size+int64(s.rng.IntN(5000)))
		}
		return err
	}},
	{5, func(s *session) error {
		if path, ok := s.newPath(); ok {
			return s.mkdir(path)
		}
		return nil
	}},
	{3, func(s *session) error {
		if path, ok := s.newPath(); ok {
			return s.symlink(path, fmt.Sprintf("to/%d", s.rng.Uint32()))
		}
		return nil
	}},
	{5, func(s *session) error {
		from, ok := pick(s, s.paths(0))
		to, free := s.newPath()
		if ok && free && s.tree.at(from).typ != blockcrypt.TypeDirectory {
			return s.link(from, to)
		}
		return nil
	}},
	{7, func(s *session) error {
		path, ok := pick(s, s.paths(0))
		switch {
		case !ok:
			return nil
		case s.tree.at(path).typ != blockcrypt.TypeDirectory:
			return s.unlink(path)
		case s.tree.empty(path):
			return s.rmdir(path)
		}
		return nil
	}},
	{10, func(s *session) error {
		from, ok := pick(s, s.paths(0))
		to, free := s.newPath()
		if over, any := pick(s, s.paths(0)); any && s.rng.IntN(2) == 0 {
			to, free = over, false
		}
		if ok && s.canRename(from, to, free) {
			return s.rename(from, to)
		}
		return nil
	}},
	{3, func(s *session) error {
		path, ok := pick(s, s.paths(0))
		if ok && s.tree.at(path).typ != blockcrypt.TypeSymlink {
			return s.chmod(path, 0o600|s.rng.Uint32()&0o77)
		}
		return nil
	}},
	{2, func(s *session) error {
		if path, ok := pick(s, s.paths(0)); ok {
			return s.utimens(path, s.rng.Int64N(1<<60))
		}
		return nil
	}},
	{5, func(s *session) error {
		path, ok := pick(s, s.paths(0))
		if !ok || s.tree.at(path).typ == blockcrypt.TypeSymlink {
			return nil
		}
		n := s.rng.IntN(40)
		if s.rng.IntN(3) == 0 {
			n = 300 + s.rng.IntN(900)
		}
		return s.setXattr(path, "user."+string(rune('a'+s.rng.IntN(3))), string(s.bytes(n)))
	}},
	{2, func(s *session) error {
		path, _ := pick(s, s.paths(0))
		if n := s.tree.at(path); n != nil && len(n.xattrs) > 0 {
			name, _ := pick(s, slices.Sorted(maps.Keys(n.xattrs)))
			return s.removeXattr(path, name)
		}
		return nil
	}},
	{1, func(s *session) error { return s.syncAll() }},
}

// canRename reports whether rename(2) would do it, and something at all.
func (s *session) canRename(from, to string, free bool) bool {
	if to == from || strings.HasPrefix(to, from+"/") || !s.tree.has(parentOf(to)) {
		return false
	}
	if free {
		return true
	}
	isDir := func(path string) bool { return s.tree.at(path).typ == blockcrypt.TypeDirectory }
	return s.tree.has(to) && s.tree.names[from] != s.tree.names[to] && isDir(from) == isDir(to) &&
		(!isDir(to) || s.tree.empty(to))
}

func (s *session) draw(list []action) error {
	sum := 0
	for _, a := range list {
		sum += a.weight
	}
	n := s.rng.IntN(sum)
	for _, a := range list {
		if n -= a.weight; n < 0 {
			return a.do(s)
		}
	}
	return nil
}

// act does one random thing to files.
func (s *session) act() error { return s.draw(actions) }

// acts does a few, for a fold to be disturbed by.
func (s *session) acts() error {
	for range 1 + s.rng.IntN(4) {
		if err := s.act(); err != nil {
			return err
		}
	}
	return nil
}

// events is what befalls the vault as a whole.
var events = []action{
	{10, func(s *session) error { return s.fold() }},
	{2, func(s *session) error { return s.sweep() }},
	{4, func(s *session) error { return s.rewrite() }},
	{3, func(s *session) error { return s.breakFold(1 + s.rng.IntN(8)) }},
	{6, func(s *session) error { return s.kill() }},
	{2, func(s *session) error { return s.remount() }},
	{2, func(s *session) error { return s.changeKeys() }},
	{2, func(s *session) error { return s.rewrap() }},
	{1, func(s *session) error { return s.breakRewrap(1 + s.rng.IntN(30)) }},
	{1, func(s *session) error { return s.reencrypt(s.somewhere()) }},
	{3, func(s *session) error { return s.pass(25 * time.Hour) }},
}

// workModel does random operations of all kinds.
func workModel(s *session, size int) error {
	s.aside = s.acts
	for range size {
		list := actions
		if s.rng.IntN(25) == 0 {
			list = events
		}
		if err := s.draw(list); err != nil {
			return err
		}
		if s.rng.IntN(25) == 0 {
			if err := s.verify(); err != nil {
				return err
			}
		}
	}
	return s.finish()
}
