package copies

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
)

// newest lets a vault go on for a while: two terms, folds, more than one segment.
func (b *bench) newest(path string, h *history, end func(*mount)) *history {
	b.t.Helper()
	m := b.mustOpen(path, machine("alpha"), h)
	m.work("third")
	m.fold()
	b.clock.advance(time.Hour)
	m.work("fourth")
	m.fold()
	m.close()
	m = b.mustOpen(path, machine("alpha"), m.history)
	m.work("fifth")
	m.fold()
	m.work("sixth")
	end(m)
	return m.history
}

// quiet checks that a vault opens for writing with all that it held, without a word, twice.
func (b *bench) quiet(path string, h *history) {
	b.t.Helper()
	for range 2 {
		m := b.mustOpen(path, machine("alpha"), h)
		m.is("opened again", h.now)
		for line := range strings.Lines(m.log.String()) {
			if !strings.Contains(line, "INFO") && !strings.Contains(line, "this is no root") { // torn in a copy
				b.t.Fatalf("not quiet: %s", line)
			}
		}
		if s := m.f.Status().Older; s != "" {
			b.t.Fatalf("opened at an older moment: %s", s)
		}
		m.close()
	}
}

// TestBackupOverNewer restores an old backup over the directory; what is newer stays, and is gone on from.
func TestBackupOverNewer(t *testing.T) {
	ends := map[string]func(*mount){"closed": (*mount).close, "crashed": (*mount).kill}
	copiers := map[string][]string{"rsync": {"rsync", "-a"}, "cp": {"cp", "-a"}}
	for endName, end := range ends {
		for copierName, copier := range copiers {
			t.Run(endName+", "+copierName, func(t *testing.T) {
				b := newBench(t)
				path, h := b.origin()
				backup := b.duplicate(path)
				h = b.newest(path, h, end)
				run(t, copier[0], copier[1], backup+"/.", path+"/")

				m := b.mustOpen(path, fs.Options{ReadOnly: true}, h)
				m.is("for reading", h.now)
				m.kill()
				m = b.mustOpen(path, machine("alpha"), h)
				m.is("for writing", h.now)
				if !strings.Contains(m.log.String(), "set back") {
					t.Errorf("nothing was said: %s", m.log)
				}
				m.work("after")
				m.close()
				b.quiet(path, h)
			})
		}
	}
}

// fresh returns the objects that one directory has and another has not.
func fresh(t *testing.T, path, old string) map[string]string {
	t.Helper()
	now := objects(t, path)
	for name := range objects(t, old) {
		delete(now, name)
	}
	delete(now, "root")
	delete(now, "envfs.json")
	return now
}

// TestBackupOverIncomplete restores an old backup over a directory of which something newer is lost.
func TestBackupOverIncomplete(t *testing.T) {
	for _, lost := range []string{"files/", "dirs/", "folds/"} {
		t.Run(lost, func(t *testing.T) {
			b := newBench(t)
			path, h := b.origin()
			backup := b.duplicate(path)
			old := h.clone()
			b.newest(path, h, (*mount).close)
			run(t, "rsync", "-a", backup+"/", path+"/")
			for name := range fresh(t, path, backup) {
				if strings.HasPrefix(name, lost) {
					must(t, os.Remove(filepath.Join(path, name)))
				}
			}
			b.goOnFromOlder(path, old, fs.ErrIncomplete, fresh(t, path, backup))
		})
	}
}

// TestNewerIncomplete brings another machine's newer work to where the vault lies, but not all of it: the store is the
// same as ever.
func TestNewerIncomplete(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	m := b.mustOpen(path, machine("alpha"), h) // root records that it lies here
	m.work("here")
	m.close()
	old := h.clone()
	before := b.duplicate(path)
	other := b.duplicate(path)
	b.newest(other, h, (*mount).close)
	run(t, "rsync", "-a", "--ignore-existing", other+"/", path+"/")

	whole := b.duplicate(path)
	m = b.mustOpen(whole, machine("alpha"), h)
	m.is("with all of it", h.now)
	m.close()

	for name := range fresh(t, path, before) {
		if strings.HasPrefix(name, "files/") {
			must(t, os.Remove(filepath.Join(path, name)))
		}
	}
	b.goOnFromOlder(path, old, fs.ErrSetBack, fresh(t, path, before))
}

// goOnFromOlder checks that a vault shows an older moment, is written to only if told so, and that nothing of what lies
// between is deleted then.
func (b *bench) goOnFromOlder(path string, old *history, refused error, between map[string]string) {
	t := b.t
	t.Helper()
	before := objects(t, path)
	if m, err := b.open(path, machine("alpha"), nil); !errors.Is(err, refused) {
		if err == nil {
			m.kill()
		}
		t.Fatalf("opened for writing: %v, want %v", err, refused)
	} else if !strings.Contains(err.Error(), "2030-01-01") {
		t.Errorf("the error names no moment: %v", err)
	}
	m := b.mustOpen(path, fs.Options{ReadOnly: true}, nil)
	m.is("for reading", old.now)
	if m.f.Status().Older == "" {
		t.Error("status does not say that this is an older moment")
	}
	m.kill()
	keeps(t, path, before)

	var highest uint64
	for name := range before {
		if n, err := blockcrypt.ParseName(name); err == nil && n.Kind == blockcrypt.KindFold {
			highest = max(highest, n.Seq)
		}
	}
	o := machine("alpha")
	o.AcceptOlder, o.Takeover = true, true
	m = b.mustOpen(path, o, old)
	m.is("accepted", old.now)
	from, err := blockcrypt.ParseName(b.rootAt(path).Predecessor.Name)
	must(t, err)
	m.work("new")
	m.fold()
	_, _, err = m.f.Sweep(ctx)
	must(t, err)
	for name := range added(t, path, before) {
		n, err := blockcrypt.ParseName(name)
		if err == nil && n.Kind == blockcrypt.KindFold && n.Seq <= highest {
			t.Errorf("%s: folds went to %d before", name, highest)
		}
	}
	m.close()
	b.quiet(path, old)
	for i := range 4 { // the grace ends, of two machines too
		b.clock.advance(40 * 24 * time.Hour)
		m = b.mustOpen(path, machine("alpha"), old)
		m.write("/shared", pattern(30_000+i, "again"))
		m.fold()
		m.remove("/new/renamed")
		m.fold()
		m.write("/new/renamed", pattern(100, "r"))
		if i%2 == 0 {
			m.kill()
		} else {
			m.close()
		}
	}
	maps.DeleteFunc(between, func(name, _ string) bool { // the root that was gone on from does not lie between
		n, err := blockcrypt.ParseName(name)
		return err == nil && n.Kind == blockcrypt.KindOldRoot && n.Seq <= from.Seq
	})
	now := objects(t, path)
	for name, data := range between {
		kept := now[name] == data
		for other, have := range now {
			kept = kept || strings.HasPrefix(other, "damaged/"+strings.ReplaceAll(name, "/", "-")) && have == data
		}
		if !kept {
			t.Errorf("%s lies between and was deleted", name)
		}
	}
	b.wholeRoots(path, slices.Collect(maps.Keys(between))...)
	b.quiet(path, old)
}

// added returns the objects of a directory that were not there before.
func added(t *testing.T, path string, before map[string]string) map[string]string {
	now := objects(t, path)
	for name := range before {
		delete(now, name)
	}
	return now
}

// TestManyMounts opens a vault more often than root remembers terms; nothing is mistaken for a fork.
func TestManyMounts(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	for i := range blockcrypt.MaxRootTerms + 20 {
		b.clock.advance(20 * time.Minute)
		m := b.mustOpen(path, machine("alpha"), h)
		if i%50 == 49 {
			m.write("/shared", pattern(1000+i, "many"))
		}
		m.close()
	}
	b.quiet(path, h)
	b.clock.advance(40 * 24 * time.Hour)
	b.quiet(path, h)
	roots, err := os.ReadDir(filepath.Join(path, "roots"))
	must(t, err)
	if len(roots) > 20 {
		t.Errorf("%d old roots are kept beyond the grace", len(roots))
	}
}
