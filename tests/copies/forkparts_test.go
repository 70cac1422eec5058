package copies

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
)

// TestForkBehindIncomplete joins two sides of a fork with the root that both continue; the newer side is not complete.
func TestForkBehindIncomplete(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	pathA, pathB := b.duplicate(path), b.duplicate(path)
	ma := b.mustOpen(pathA, machine("alpha"), h.clone())
	ma.work("a")
	ma.close()
	b.clock.advance(time.Hour)
	mb := b.mustOpen(pathB, machine("beta"), h.clone())
	mb.work("b")
	mb.fold()
	mb.work("bb")
	mb.close()
	newest := newestRoot(t, pathB)
	for name := range fresh(t, pathB, path) { // the older roots' trees would be complete
		if strings.HasPrefix(name, "files/") || strings.HasPrefix(name, "roots/") && name != newest {
			must(t, os.Remove(filepath.Join(pathB, name)))
		}
	}
	b.join(pathA, pathB, path)
	b.unwritable(pathA, fs.ErrFork)
	m := b.mustOpen(pathA, fs.Options{ReadOnly: true}, nil)
	m.is("for reading", h.now)
	m.kill()
}

// unwritable checks that a vault is written to under no options.
func (b *bench) unwritable(path string, want error) {
	b.t.Helper()
	for _, o := range []fs.Options{{}, {Takeover: true}, {AcceptOlder: true}, {Takeover: true, AcceptOlder: true}} {
		m := machine("alpha")
		o.Host, o.User, o.StateID = m.Host, m.User, m.StateID
		b.refused(path, o, want)
	}
}

// TestForkOfSegments joins two sides of a fork, of one of which only the journal comes.
func TestForkOfSegments(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	pathA, pathB := b.duplicate(path), b.duplicate(path)
	ma := b.mustOpen(pathA, machine("alpha"), h.clone())
	ma.work("a")
	ma.kill()
	mb := b.mustOpen(pathB, machine("beta"), h.clone())
	mb.work("b")
	mb.kill()
	removeFresh(t, pathB, path, "roots/")
	b.join(pathA, pathB, pathA)
	b.refused(pathA, machine("alpha"), fs.ErrFork)
}

// TestWrittenAfterTakeover has a machine go on in its segments after another has taken over, which comes to where that
// one lies, or to a copy.
func TestWrittenAfterTakeover(t *testing.T) {
	for _, rotate := range []bool{false, true} { // else its next segment begins right where its term has ended
		b := newBench(t)
		pathA, h := b.origin()
		ma := b.mustOpen(pathA, machine("alpha"), h.clone())
		ma.work("a")
		ma.fold()
		pathB := b.duplicate(pathA)
		o := machine("beta")
		o.Takeover = true
		mb := b.mustOpen(pathB, o, ma.history.clone())
		mb.work("b")
		mb.close()
		base := b.duplicate(pathA)
		ma.work("late")
		if rotate {
			ma.fold()
			ma.work("later")
		}
		ma.kill()
		removeFresh(t, pathA, base, "roots/")
		if rotate { // the first of its segments has not come
			for name := range fresh(t, pathA, base) {
				if strings.HasPrefix(name, "journal/") && strings.Contains(name, "-2-") {
					must(t, os.Remove(filepath.Join(pathA, name)))
				}
			}
		}
		run(t, "rsync", "-a", "--exclude=root", pathA+"/", pathB+"/") // segments have grown
		b.refused(pathB, machine("beta"), fs.ErrFork)
		copied := b.duplicate(pathB)
		b.refused(copied, machine("beta"), fs.ErrIncomplete)

		segments := fresh(t, copied, base)
		o.AcceptOlder = true
		hb := mb.history
		for _, path := range []string{pathB, copied} {
			mb = b.mustOpen(path, o, hb.clone())
			mb.is("the side of root", mb.now)
			mb.work("accepted")
			mb.close()
			now := objects(t, path)
			for name, data := range segments {
				if strings.HasPrefix(name, "journal/") && tagNamed(t, name) == tagNamed(t, newestRoot(t, base)) && !kept(now, name, data) {
					t.Errorf("%s is gone", name)
				}
			}
			b.quiet(path, mb.history)
		}
	}
}

func tagNamed(t *testing.T, name string) blockcrypt.Tag {
	t.Helper()
	tag, ok := tagOf(name)
	if !ok {
		t.Fatalf("%s has no tag", name)
	}
	return tag
}
