package copies

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs"
)

// rootOf returns a vault's root as it is now.
func rootOf(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path, "root"))
	must(t, err)
	return data
}

// setRoot makes a copy of a vault with another root.
func (b *bench) setRoot(path string, root []byte) string {
	b.t.Helper()
	to := b.duplicate(path)
	must(b.t, os.WriteFile(filepath.Join(to, "root"), root, 0o600))
	return to
}

// removeFresh removes the objects of some kinds that a vault has and an older state of it has not.
func removeFresh(t *testing.T, path, old string, prefixes ...string) {
	t.Helper()
	for name := range fresh(t, path, old) {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) {
				must(t, os.Remove(filepath.Join(path, name)))
			}
		}
	}
}

// TestNewerRootsCut copies a vault whose root is older than the rest, and of whose newer roots only a beginning is there.
func TestNewerRootsCut(t *testing.T) {
	for _, also := range []string{"", "journal/"} {
		for _, size := range []int64{0, 512} {
			b := newBench(t)
			path, h := b.origin()
			before := b.duplicate(path)
			old := h.clone()
			b.newest(path, h, (*mount).close)
			torn := b.setRoot(path, rootOf(t, before))
			for name := range fresh(t, torn, before) {
				if strings.HasPrefix(name, "roots/") {
					must(t, os.Truncate(filepath.Join(torn, name), size))
				}
			}
			if also != "" {
				removeFresh(t, torn, before, also)
			}
			b.goOnFromOlder(torn, old, fs.ErrIncomplete, fresh(t, torn, before))
		}
	}
}

// TestNewerRootsCutHere brings another machine's newer work to where the vault lies, of whose roots only the names are
// there.
func TestNewerRootsCutHere(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	m := b.mustOpen(path, machine("alpha"), h) // root records that it lies here
	m.close()
	before, other := b.duplicate(path), b.duplicate(path)
	old := h.clone()
	b.newest(other, h, (*mount).close)
	removeFresh(t, other, before, "journal/")
	run(t, "rsync", "-a", "--ignore-existing", other+"/", path+"/")
	for name := range fresh(t, path, before) {
		if strings.HasPrefix(name, "roots/") {
			must(t, os.Truncate(filepath.Join(path, name), 0))
		}
	}
	b.goOnFromOlder(path, old, fs.ErrSetBack, fresh(t, path, before))
}

// term is a vault with a term that has folded thrice and is still at work.
type term struct {
	path  string
	folds [3]struct {
		path string // a copy made then
		root []byte
		*history
	}
}

func (b *bench) term() *term {
	b.t.Helper()
	path, h := b.origin()
	m := b.mustOpen(path, machine("alpha"), h)
	v := &term{path: path}
	for i := range v.folds {
		m.work([]string{"a", "b", "c"}[i])
		m.rename("/second/renamed", "/second/again") // is of the fold before
		m.rename("/second/again", "/second/renamed")
		m.fold()
		f := &v.folds[i]
		f.path, f.root, f.history = b.duplicate(path), rootOf(b.t, path), h.clone()
	}
	m.work("d")
	m.kill()
	return v
}

// TestJournalGap copies a vault whose root is older than the rest. The newer roots are lost; what tells of them are
// segments that continue what was folded meanwhile.
func TestJournalGap(t *testing.T) {
	b := newBench(t)
	v := b.term()
	torn := b.setRoot(v.path, v.folds[0].root)
	removeFresh(t, torn, v.folds[0].path, "roots/")
	b.goOnFromOlder(torn, v.folds[0].history, fs.ErrIncomplete, fresh(t, torn, v.folds[0].path))
}

// TestJournalBeyondFold copies a vault whose root is one fold older than the rest: its journal is there, but goes on to
// name what the fold has written.
func TestJournalBeyondFold(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	m := b.mustOpen(path, machine("alpha"), h)
	m.work("a")
	m.fold()
	before, root := b.duplicate(path), rootOf(t, path)
	m.work("b")
	m.fold()
	old := h.clone()
	m.rename("/b/renamed", "/b/again")
	m.kill()
	torn := b.setRoot(path, root)
	removeFresh(t, torn, before, "roots/")
	between := fresh(t, torn, before)
	for name := range between {
		if strings.HasPrefix(name, "journal/") || strings.Contains(name, ".x") {
			delete(between, name) // replayed, in part
		}
	}
	b.goOnFromOlder(torn, old, fs.ErrIncomplete, between)
}

// TestJournalShort copies a vault whose root names segments that the rest, which is newer, does not have any more.
func TestJournalShort(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	old := h.clone()
	m := b.mustOpen(path, machine("alpha"), h)
	m.work("a")
	m.kill()
	m = b.mustOpen(path, machine("alpha"), h)
	before, root := b.duplicate(path), rootOf(t, path)
	for _, name := range []string{"b", "c", "d"} {
		m.work(name)
		m.fold()
	}
	m.kill()
	torn := b.setRoot(path, root)
	removeFresh(t, torn, before, "roots/", "journal/")
	b.goOnFromOlder(torn, old, fs.ErrIncomplete, fresh(t, torn, before))
}

// TestFoldsBeyondRoot copies a vault whose root is older than the rest, of whose newer roots nothing is there: it is
// gone on from without a word, as nothing tells that there was one, and nothing is deleted.
func TestFoldsBeyondRoot(t *testing.T) {
	b := newBench(t)
	v := b.term()
	torn := b.setRoot(v.path, v.folds[0].root)
	old := v.folds[0].history
	removeFresh(t, torn, v.folds[0].path, "roots/")
	for name := range objects(t, torn) {
		if strings.HasPrefix(name, "journal/") {
			must(t, os.Remove(filepath.Join(torn, name)))
		}
	}
	between := fresh(t, torn, v.folds[0].path)
	m := b.mustOpen(torn, machine("alpha"), old)
	m.is("the older moment", old.now)
	m.work("new")
	m.fold()
	_, _, err := m.f.Sweep(ctx)
	must(t, err)
	m.close()
	m = b.mustOpen(torn, machine("alpha"), old)
	m.work("newer")
	m.fold()
	_, _, err = m.f.Sweep(ctx)
	must(t, err)
	m.close()
	now := objects(t, torn)
	for name, data := range between {
		if now[name] != data {
			t.Errorf("%s was deleted", name)
		}
	}
	b.quiet(torn, old)
}

// TestFirstSegmentTorn copies a vault whose root is older than the journal, of which the first segment has no whole
// beginning.
func TestFirstSegmentTorn(t *testing.T) {
	for _, segments := range []int{1, 2} {
		b := newBench(t)
		path, h := b.origin()
		before := b.duplicate(path)
		old := h.clone()
		m := b.mustOpen(path, machine("alpha"), h)
		m.work("third")
		if segments == 2 {
			m.fold()
			m.work("fourth")
		}
		m.kill()
		torn := b.setRoot(path, rootOf(t, before))
		removeFresh(t, torn, before, "roots/")
		first, err := filepath.Glob(filepath.Join(torn, "journal", "*-1-*"))
		must(t, err)
		if len(first) != 1 {
			t.Fatalf("first segments: %q", first)
		}
		must(t, os.Truncate(first[0], 100))
		b.goOnFromOlder(torn, old, fs.ErrIncomplete, fresh(t, torn, before))
	}
}

// TestNoFoldRecord copies a vault of which no fold record is there, and whose journal goes on.
func TestNoFoldRecord(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	folded := h.clone()
	m := b.mustOpen(path, machine("alpha"), h)
	m.work("third")
	m.kill()
	for _, size := range []int64{-1, 0, 512} {
		torn := b.duplicate(path)
		for name := range objects(t, torn) {
			if p := filepath.Join(torn, name); !strings.HasPrefix(name, "folds/") {
				continue
			} else if size < 0 {
				must(t, os.Remove(p))
			} else {
				must(t, os.Truncate(p, size))
			}
		}
		b.refused(torn, machine("alpha"), fs.ErrIncomplete)
		o := machine("alpha")
		o.AcceptOlder = true
		b.refused(torn, o, fs.ErrIncomplete)
		m := b.mustOpen(torn, fs.Options{ReadOnly: true}, nil)
		m.is("the tree alone", folded.now)
		if s := m.f.Status().Older; !strings.Contains(s, "no moment is complete") {
			t.Errorf("status says %q", s)
		}
		m.kill()
	}
}

// TestManyCrashes crashes more often than root remembers terms, without a fold.
func TestManyCrashes(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	for i := range blockcrypt.MaxRootTerms + 5 {
		m := b.mustOpen(path, machine("alpha"), h)
		m.write("/shared", pattern(1000+i, "many"))
		m.kill()
	}
	m := b.mustOpen(path, machine("alpha"), h)
	m.is("after all", h.now)
	m.close()
	b.quiet(path, h)
}
