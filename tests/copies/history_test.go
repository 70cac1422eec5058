package copies

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"envfs/blockcrypt"
	"envfs/fs"
)

// tree is what a vault holds: by path, "d" for a directory, "f" and its content for a file.
type tree map[string]string

type digest [32]byte

func (d *digest) toggle(path, what string) {
	h := sha256.Sum256(fmt.Appendf(nil, "%d %s %s", len(path), path, what))
	for i := range d {
		d[i] ^= h[i]
	}
}

func (t tree) digest() (d digest) {
	for p, what := range t {
		d.toggle(p, what)
	}
	return d
}

// differ says how two trees differ.
func (t tree) differ(want tree) string {
	var s []string
	for _, p := range slices.Sorted(maps.Keys(t)) {
		if w, ok := want[p]; !ok {
			s = append(s, "unexpected "+p)
		} else if w != t[p] {
			s = append(s, fmt.Sprintf("%s: %s, want %s", p, short(t[p]), short(w)))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if _, ok := t[p]; !ok {
			s = append(s, "missing "+p)
		}
	}
	if len(s) > 10 {
		s = append(s[:10], "...")
	}
	return fmt.Sprint(s)
}

func short(s string) string { return fmt.Sprintf("%.12q (%d bytes)", s, len(s)) }

// history knows every state that a vault was in.
type history struct {
	now     tree
	sum     digest
	moments map[digest]int
}

func newHistory() *history {
	h := &history{now: make(tree), moments: make(map[digest]int)}
	h.moments[h.sum] = 0
	return h
}

func (h *history) clone() *history {
	return &history{now: maps.Clone(h.now), sum: h.sum, moments: maps.Clone(h.moments)}
}

// set notes what lies at a path by now; "" is nothing.
func (h *history) set(p, what string) {
	if old, ok := h.now[p]; ok {
		h.sum.toggle(p, old)
		delete(h.now, p)
	}
	if what != "" {
		h.sum.toggle(p, what)
		h.now[p] = what
	}
}

// moment notes that the vault is in the present state.
func (h *history) moment() { h.moments[h.sum] = len(h.moments) }

// read reads all that the vault holds.
func read(f *fs.FS) (tree, error) {
	t := make(tree)
	return t, readDir(f, f.Root(), "", t)
}

func readDir(f *fs.FS, ino *fs.Inode, at string, t tree) error {
	var names []string
	err := f.ReadDir(ctx, ino, 0, func(e fs.DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("list %s/: %w", at, err)
	}
	for _, name := range names {
		if err := readName(f, ino, name, at+"/"+name, t); err != nil {
			return fmt.Errorf("%s/%s: %w", at, name, err)
		}
	}
	return nil
}

func readName(f *fs.FS, parent *fs.Inode, name, at string, t tree) error {
	ino, st, err := f.Lookup(ctx, parent, name)
	if err != nil {
		return err
	}
	defer f.Forget(ino, 1)
	if st.Type == blockcrypt.TypeDirectory {
		t[at] = "d"
		return readDir(f, ino, at, t)
	}
	h, err := f.Open(ctx, ino)
	if err != nil {
		return err
	}
	defer h.Close()
	p := make([]byte, st.Size)
	n, err := h.ReadAt(ctx, p, 0)
	if err == nil && n < len(p) {
		err = errors.New("shorter than its size")
	}
	t[at] = "f" + string(p)
	return err
}

// is checks that the mount shows exactly a tree.
func (m *mount) is(when string, want tree) {
	m.t.Helper()
	got, err := read(m.f)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", when, err, m.log)
	}
	if d := got.differ(want); d != "[]" {
		m.t.Fatalf("%s: %s\n%s", when, d, m.log)
	}
}

// isMoment checks that the mount shows a moment of its history, and returns which.
func (m *mount) isMoment(when string) int {
	m.t.Helper()
	got, err := read(m.f)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", when, err, m.log)
	}
	at, ok := m.moments[got.digest()]
	if !ok {
		m.t.Fatalf("%s: no moment of history; against the newest: %s\n%s", when, got.differ(m.now), m.log)
	}
	return at
}

func (m *mount) resolve(p string) *fs.Inode {
	m.t.Helper()
	ino, _, err := m.f.Resolve(ctx, p)
	must(m.t, err)
	return ino
}

func (m *mount) mkdir(p string) {
	m.t.Helper()
	parent := m.resolve(path.Dir(p))
	defer m.f.Forget(parent, 1)
	ino, _, err := m.f.Mkdir(ctx, parent, path.Base(p), 0o755, fs.Cred{})
	must(m.t, err)
	m.f.Forget(ino, 1)
	m.set(p, "d")
	m.moment()
}

// write makes a file, or changes its beginning.
func (m *mount) write(p string, data []byte) {
	m.t.Helper()
	parent := m.resolve(path.Dir(p))
	defer m.f.Forget(parent, 1)
	ino, h, _, err := m.f.Create(ctx, parent, path.Base(p), 0o644, fs.Cred{})
	if errors.Is(err, fs.ErrExist) {
		ino, _, err = m.f.Lookup(ctx, parent, path.Base(p))
		must(m.t, err)
		h, err = m.f.Open(ctx, ino)
	}
	must(m.t, err)
	defer m.f.Forget(ino, 1)
	defer h.Close()
	old, ok := m.now[p]
	if !ok {
		old = "f"
		m.set(p, old)
		m.moment()
	}
	_, err = h.WriteAt(ctx, data, 0, false)
	must(m.t, err)
	must(m.t, h.Flush(ctx))
	m.set(p, "f"+string(data)+old[min(len(old), 1+len(data)):])
	m.moment()
}

func (m *mount) remove(p string) {
	m.t.Helper()
	parent := m.resolve(path.Dir(p))
	defer m.f.Forget(parent, 1)
	if m.now[p] == "d" {
		must(m.t, m.f.Rmdir(ctx, parent, path.Base(p)))
	} else {
		must(m.t, m.f.Unlink(ctx, parent, path.Base(p)))
	}
	m.set(p, "")
	m.moment()
}

// rename moves a file, maybe over another.
func (m *mount) rename(from, to string) {
	m.t.Helper()
	a, b := m.resolve(path.Dir(from)), m.resolve(path.Dir(to))
	defer m.f.Forget(a, 1)
	defer m.f.Forget(b, 1)
	must(m.t, m.f.Rename(ctx, a, path.Base(from), b, path.Base(to), 0))
	what := m.now[from]
	m.set(from, "")
	m.set(to, what)
	m.moment()
}

// pattern returns n bytes that tell where they belong.
func pattern(n int, seed string) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7) ^ byte(i>>8) ^ seed[i%len(seed)]
	}
	return p
}
