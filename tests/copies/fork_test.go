package copies

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"envfs/fs"
)

// work does a bit of everything below a directory of its own and beside it.
func (m *mount) work(name string) {
	m.t.Helper()
	m.mkdir("/" + name)
	m.write("/"+name+"/small", pattern(100, name))
	m.write("/"+name+"/large", pattern(60_000, name))
	m.write("/shared", pattern(30_000, name))
	m.write("/"+name+"/gone", pattern(9000, name+"gone"))
	m.remove("/" + name + "/gone")
	m.write("/"+name+"/temp", pattern(5000, name+"temp"))
	m.rename("/"+name+"/temp", "/"+name+"/renamed")
}

// origin makes a vault with something in it, closed.
func (b *bench) origin() (string, *history) {
	b.t.Helper()
	path := b.newVault()
	m := b.mustOpen(path, machine("origin"), nil)
	m.work("first")
	m.fold()
	m.work("second")
	m.close()
	return path, m.history
}

// ways to end a mount after some work.
var ways = map[string]func(m *mount, name string){
	"crashed": func(m *mount, name string) {
		m.work(name)
		m.kill()
	},
	"folded and crashed": func(m *mount, name string) {
		m.work(name)
		m.fold()
		m.work(name + "2")
		m.kill()
	},
	"folded": func(m *mount, name string) {
		m.work(name)
		m.fold()
		m.kill()
	},
	"closed": func(m *mount, name string) {
		m.work(name)
		m.fold()
		m.work(name + "2")
		m.close()
	},
	"idle": func(m *mount, name string) { // began a term and did nothing
		m.close()
	},
}

func TestForks(t *testing.T) {
	for a, endA := range ways {
		for b, endB := range ways {
			if a > b {
				continue // joined in both orders anyway
			}
			t.Run(a+" and "+b, func(t *testing.T) {
				testFork(t, endA, endB)
			})
		}
	}
}

func testFork(t *testing.T, endA, endB func(*mount, string)) {
	b := newBench(t)
	pathA, h := b.origin()
	pathB := b.duplicate(pathA)
	b.clock.advance(time.Hour)
	ma := b.mustOpen(pathA, machine("alpha"), h.clone())
	endA(ma, "a")
	b.clock.advance(time.Hour)
	mb := b.mustOpen(pathB, machine("beta"), h.clone())
	endB(mb, "b")
	for _, own := range []*mount{ma, mb} {
		other := ma
		if own == ma {
			other = mb
		}
		joined := b.duplicate(pathA)
		b.join(joined, pathB, own.path)
		b.checkFork(joined, own, other, newestRoot(t, other.path))

		// A tool that keeps both, one under a name that it makes up.
		for _, name := range []string{"root.sync-conflict-20260101-120000-ABC", "root (conflicted copy 2026-01-01)"} {
			data, err := os.ReadFile(filepath.Join(other.path, "root"))
			must(t, err)
			joined := b.duplicate(joined)
			must(t, os.WriteFile(filepath.Join(joined, name), data, 0o600))
			b.checkFork(joined, own, other, name)
			// The same without the copies of the other's roots.
			must(t, os.Remove(filepath.Join(joined, newestRoot(t, other.path))))
			b.checkFork(joined, own, other, name)
		}
	}
}

// checkFork checks that the joined vault is own's for reading and nobody's for writing, and that name shows the
// other's side.
func (b *bench) checkFork(joined string, own, other *mount, name string) {
	t := b.t
	t.Helper()
	before := objects(t, joined)
	for _, host := range []string{"alpha", "beta", "gamma"} {
		for _, o := range []fs.Options{{}, {Takeover: true}, {AcceptOlder: true}, {Takeover: true, AcceptOlder: true}} {
			m := machine(host)
			o.Host, o.User, o.StateID = m.Host, m.User, m.StateID
			opened, err := b.open(joined, o, nil)
			if err == nil {
				opened.kill()
			}
			if !errors.Is(err, fs.ErrFork) {
				t.Fatalf("opened for writing on %s (%+v): %v", host, o, err)
			}
			for _, say := range []string{"alpha", "beta", "2030-01-01"} {
				if !strings.Contains(err.Error(), say) {
					t.Fatalf("the error does not say %q: %v", say, err)
				}
			}
			if len(err.Error()) > 600 || strings.Contains(err.Error(), "\n") {
				t.Fatalf("a long error: %v", err)
			}
		}
	}
	m := b.mustOpen(joined, fs.Options{ReadOnly: true}, nil)
	m.is("the side of root", own.now)
	m.kill()
	for _, o := range []struct {
		name string
		side *mount
	}{{name, other}, {newestRoot(t, own.path), own}} {
		m = b.mustOpen(joined, fs.Options{RootName: o.name}, nil)
		m.is("the side of "+o.name, o.side.now)
		m.kill()
	}
	keeps(t, joined, before)
}
