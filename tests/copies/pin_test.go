package copies

import (
	"errors"
	"os"
	"strings"
	"testing"

	"envfs/fs"
)

// pinned returns the options of a machine that remembers what it has seen.
func (b *bench) pinned(host string) fs.Options {
	o := machine(host)
	o.StateDir = b.t.TempDir()
	return o
}

// put makes a directory's place that of a copy of another.
func (b *bench) put(path, from string) {
	b.t.Helper()
	must(b.t, os.RemoveAll(path))
	run(b.t, "cp", "-a", from, path)
}

func (b *bench) refused(path string, o fs.Options, want error) {
	b.t.Helper()
	before := objects(b.t, path)
	m, err := b.open(path, o, nil)
	if err == nil {
		m.kill()
	}
	if !errors.Is(err, want) {
		b.t.Fatalf("opened: %v, want %v", err, want)
	}
	keeps(b.t, path, before)
}

// TestPins sets whole vaults back, which only who remembers them can find.
func TestPins(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	o := b.pinned("alpha")
	m := b.mustOpen(path, o, h)
	m.work("third")
	m.close()
	backup, old := b.duplicate(path), h.clone()
	m = b.mustOpen(path, o, h)
	m.work("fourth")
	m.close()
	newest := b.duplicate(path)

	b.put(path, backup)
	b.refused(path, o, fs.ErrSetBack)
	reading := o
	reading.ReadOnly = true
	m = b.mustOpen(path, reading, nil)
	m.is("the older one, for reading", old.now)
	if m.f.Status().Older == "" {
		t.Error("status does not say that this is older than what was seen")
	}
	m.kill()
	b.refused(path, o, fs.ErrSetBack) // looking has moved nothing

	b.put(path, newest)
	m = b.mustOpen(path, o, h)
	m.is("the newest again", h.now)
	m.close()

	b.put(path, backup)
	accepting := o
	accepting.AcceptOlder = true
	m = b.mustOpen(path, accepting, old)
	m.is("accepted", old.now)
	m.work("other")
	m.close()
	m = b.mustOpen(path, o, old)
	m.is("after it was accepted", old.now)
	m.close()

	// Not seen at this place, but newer elsewhere.
	m = b.mustOpen(backup, o, nil)
	if !strings.Contains(m.log.String(), "older than one seen elsewhere") {
		t.Errorf("nothing was said: %s", m.log)
	}
	m.kill()
}

// TestPinOfOtherRoot puts a vault in place whose root has the sequence that was seen, and is another.
func TestPinOfOtherRoot(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	twin := b.duplicate(path)
	o := b.pinned("alpha")
	for _, p := range []string{path, twin} {
		m := b.mustOpen(p, o, h.clone())
		m.work("third")
		m.close()
	}
	b.put(path, twin)
	b.refused(path, o, fs.ErrOtherVault)
	o.ReadOnly = true
	m := b.mustOpen(path, o, nil)
	m.kill()
}

// TestPinOfOtherVault puts another vault where one was seen. One that is made there is no surprise.
func TestPinOfOtherVault(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	o := b.pinned("alpha")
	m := b.mustOpen(path, o, h)
	m.close()
	other, _ := b.origin()
	kept := b.duplicate(path)
	b.put(path, other)
	b.refused(path, o, fs.ErrOtherVault)
	b.put(path, kept)
	m = b.mustOpen(path, o, h)
	m.is("the first again", h.now)
	m.close()

	must(t, os.RemoveAll(path))
	b.makeVault(path, o.StateDir)
	m = b.mustOpen(path, o, nil)
	m.work("anew")
	m.close()
	b.put(path, kept)
	b.refused(path, o, fs.ErrOtherVault)
}
