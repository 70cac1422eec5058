package copies

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"envfs/fs"
)

// TestJournalGivenUp loses a segment where the vault lies, and goes on from before it: what those behind it name stays.
func TestJournalGivenUp(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	old := h.clone()
	for _, name := range []string{"a", "b"} {
		m := b.mustOpen(path, machine("alpha"), h)
		m.work(name)
		must(t, m.f.Sync(ctx))
		m.kill()
	}
	segments, err := filepath.Glob(filepath.Join(path, "journal", "3-1-*"))
	must(t, err)
	must(t, os.Remove(segments[0]))
	before := objects(t, path)
	delete(before, "root")
	o := machine("alpha")
	b.refused(path, o, fs.ErrDamaged)
	o.AcceptOlder = true
	m := b.mustOpen(path, o, old)
	m.is("accepted", old.now)
	m.work("new")
	m.fold()
	_, _, err = m.f.Sweep(ctx)
	must(t, err)
	m.close()
	now := objects(t, path)
	for name, data := range before {
		if !kept(now, name, data) {
			t.Errorf("%s was deleted", name)
		}
	}
	b.quiet(path, old)
}

// TestSegmentComesLate goes on from a copy to which only the second segment of a later term has come; then the first
// comes, too.
func TestSegmentComesLate(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	before, old := b.duplicate(path), h.clone()
	m := b.mustOpen(path, machine("alpha"), h)
	m.work("third")
	m.fold()
	m.work("fourth")
	must(t, m.f.Sync(ctx))
	m.write("/fourth/more", pattern(100, "more"))
	m.kill()
	torn := b.setRoot(path, rootOf(t, before))
	removeFresh(t, torn, before, "roots/")
	first, err := filepath.Glob(filepath.Join(torn, "journal", "*-1-*"))
	must(t, err)
	data, err := os.ReadFile(first[0])
	must(t, err)
	for _, left := range [][]byte{nil, data[:100]} { // an empty one, a torn one
		torn := b.duplicate(torn)
		name := filepath.Join(torn, "journal", filepath.Base(first[0]))
		must(t, os.WriteFile(name, left, 0o600))
		b.refused(torn, machine("alpha"), fs.ErrIncomplete)
		o := machine("alpha")
		o.AcceptOlder = true
		m := b.mustOpen(torn, o, old.clone())
		m.is("accepted", old.now)
		m.write("/new", pattern(100, "new"))
		m.kill()
		for _, come := range [][]byte{left, data} {
			must(t, os.WriteFile(name, come, 0o600))
			r := b.mustOpen(torn, fs.Options{ReadOnly: true}, m.history)
			r.is("gone on from", m.now)
			if s := r.f.Status().Older; s != "" {
				t.Errorf("%d bytes of %s are there: %s", len(come), name, s)
			}
			r.kill()
		}
		b.quiet(torn, m.history)
	}
}

// TestRestOfSegmentComesLate goes on from a copy that has only the beginning of a segment which root vouches for; then
// the rest comes.
func TestRestOfSegmentComesLate(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	for _, name := range []string{"third", "fourth"} {
		m := b.mustOpen(path, machine("alpha"), h)
		m.work(name)
		m.kill()
	}
	torn := b.duplicate(path)
	segments, err := filepath.Glob(filepath.Join(torn, "journal", "3-1-*"))
	must(t, err)
	data, err := os.ReadFile(segments[0])
	must(t, err)
	must(t, os.Truncate(segments[0], int64(len(data)/2)))
	o := machine("alpha")
	b.refused(torn, o, fs.ErrIncomplete)
	o.AcceptOlder = true
	m := b.mustOpen(torn, o, h)
	m.isMoment("accepted")
	m.history = m.from()
	m.write("/new", pattern(100, "new"))
	m.kill()
	must(t, os.WriteFile(segments[0], data, 0o600))
	r := b.mustOpen(torn, fs.Options{ReadOnly: true}, nil)
	r.is("gone on from", m.now)
	r.kill()
	b.quiet(torn, m.history)
}

// TestNothingComplete goes on from a copy of which something is lost that every moment needs, and whose root is older
// than the rest: what was newer is no fork afterwards.
func TestNothingComplete(t *testing.T) {
	b := newBench(t)
	v := b.term()
	torn := b.setRoot(v.path, v.folds[0].root)
	extents, err := filepath.Glob(filepath.Join(torn, "files", "*", "*.x1-*"))
	must(t, err)
	for _, x := range extents { // those of the first fold, which some of what there is at any time is in
		must(t, os.Remove(x))
	}
	for name := range objects(t, v.folds[0].path) { // those of before
		if strings.HasPrefix(name, "roots/") {
			must(t, os.Remove(filepath.Join(torn, name)))
		}
	}
	between := fresh(t, torn, v.folds[0].path)
	o := machine("alpha")
	b.refused(torn, o, fs.ErrIncomplete)
	o.AcceptOlder = true
	m := b.mustOpen(torn, o, v.folds[0].history)
	m.work("new")
	m.fold()
	_, _, err = m.f.Sweep(ctx)
	must(t, err)
	m.close()
	m = b.mustOpen(torn, machine("alpha"), m.history)
	if s := m.f.Status().Older; s != "" {
		t.Errorf("after it was accepted: %s", s)
	}
	m.close()
	now := objects(t, torn)
	for name, data := range between {
		if !kept(now, name, data) {
			t.Errorf("%s was deleted", name)
		}
	}
}
