package copies

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
)

// oldRoots names the copies of roots at path, the oldest first.
func oldRoots(t *testing.T, path string) (names []string) {
	t.Helper()
	seqs := make(map[string]uint64)
	for name := range objects(t, path) {
		if n, err := blockcrypt.ParseName(name); err == nil && n.Kind == blockcrypt.KindOldRoot {
			seqs[name] = n.Seq
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return int(seqs[a]) - int(seqs[b]) })
	return names
}

// wholeRoots checks that each copy of a root at path shows a tree that is whole, but for those that are given up.
func (b *bench) wholeRoots(path string, givenUp ...string) {
	b.t.Helper()
	names := oldRoots(b.t, path)
	for _, name := range names {
		if slices.Contains(givenUp, name) {
			continue
		}
		m := b.mustOpen(path, fs.Options{RootName: name}, nil)
		_, err := m.f.Check(ctx, fs.CheckOptions{}, func(fd fs.Finding) { b.t.Errorf("%s: %+v", name, fd) })
		must(b.t, err)
		m.kill()
	}
	if len(names) == 0 {
		b.t.Error("no copies of roots")
	}
}

// age lets the grace of all that a vault has superseded pass.
func (b *bench) age(path string, h *history) {
	b.t.Helper()
	for i := range 2 {
		b.clock.advance(40 * 24 * time.Hour)
		m := b.mustOpen(path, machine("alpha"), h)
		m.write("/shared", pattern(30_000+i, "age"))
		m.fold()
		m.close()
	}
}

// TestOldRootRestored puts back a root whose grace has ended. A newer one is gone on from, and no copy of the old is
// made, as what it needs is gone.
func TestOldRootRestored(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	old := rootOf(t, path)
	m := b.mustOpen(path, machine("alpha"), h)
	m.work("third")
	m.fold()
	m.close()
	b.age(path, h)
	b.wholeRoots(path)
	newest := newestRoot(t, path)
	must(t, os.WriteFile(filepath.Join(path, "root"), old, 0o600))
	m = b.mustOpen(path, machine("alpha"), h)
	m.is("gone on from", h.now)
	m.kill()
	b.wholeRoots(path)
	if p := b.rootAt(path).Predecessor.Name; p != newest {
		t.Errorf("the predecessor is %s, want %s", p, newest)
	}
	b.quiet(path, h)
}
