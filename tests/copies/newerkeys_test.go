package copies

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/keystore"
)

// TestNewerKeys copies a vault whose root names an older key file than the newer roots.
func TestNewerKeys(t *testing.T) {
	b := newBench(t)
	origin, h := b.origin()
	root := rootOf(t, origin)
	for name, change := range map[string]func(*keystore.Vault) (*keystore.Vault, error){"slot added": b.addSlot, "rotated": b.rotate} {
		t.Run(name, func(t *testing.T) {
			path := b.duplicate(origin)
			m := b.mustOpen(path, machine("alpha"), h.clone())
			m.work("third")
			must(t, m.f.ChangeKeys(ctx, change))
			m.work("fourth")
			m.close()
			newest := rootOf(t, path)
			torn := b.setRoot(path, root)
			b.unwritable(torn, fs.ErrIncomplete)
			if _, err := b.open(torn, machine("alpha"), nil); err == nil || !strings.Contains(err.Error(), "in the place of root") {
				t.Errorf("the error does not say what to do: %v", err)
			}
			r := b.mustOpen(torn, fs.Options{ReadOnly: true}, m.history)
			r.isMoment("for reading")
			if name == "rotated" && r.f.Status().Older == "" {
				t.Error("status does not say that this is an older moment")
			}
			r.kill()
			b.quiet(b.setRoot(torn, newest), m.history)
		})
	}
}

// TestKeysNotCopied copies a vault whose keys were changed meanwhile: its root names a key file that is not there.
func TestKeysNotCopied(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	m := b.mustOpen(path, machine("alpha"), h)
	m.work("third")
	m.fold()
	old, before := h.clone(), b.duplicate(path)
	must(t, m.f.ChangeKeys(ctx, b.rotate))
	m.work("fourth")
	m.close()
	torn := b.setRoot(before, rootOf(t, path))
	b.unwritable(torn, fs.ErrIncomplete)
	_, err := b.open(torn, fs.Options{ReadOnly: true}, nil)
	newest := newestRoot(t, before)
	if !errors.Is(err, fs.ErrIncomplete) || !strings.Contains(err.Error(), newest) {
		t.Errorf("the error does not name %s: %v", newest, err)
	}
	m = b.mustOpen(torn, fs.Options{RootName: newest}, nil)
	m.is("the newest root that can be opened", old.now)
	m.kill()
}

var oldRoot = regexp.MustCompile("roots/[-0-9a-z]+")

// openKeyless checks how a copy is refused whose root names a key file that is not there: a root that has its key file
// is named, if there is one, and shows a moment.
func (b *bench) openKeyless(path string, err error, c *torn, fm *film) {
	b.t.Helper()
	if err == nil || c.exact {
		b.t.Fatalf("without root's key file: %v", err)
	}
	name := oldRoot.FindString(err.Error())
	if name == "" {
		return
	}
	if !errors.Is(err, fs.ErrIncomplete) {
		b.t.Fatalf("without root's key file: %v", err)
	}
	m, err := b.open(path, fs.Options{RootName: name}, fm.history)
	if err != nil {
		if !errors.Is(err, fs.ErrIncomplete) && !errors.Is(err, fs.ErrDamaged) {
			b.t.Fatalf("%s: %v", name, err)
		}
		return
	}
	defer m.kill()
	if tree, err := read(m.f); err == nil {
		if _, ok := fm.moments[tree.digest()]; !ok {
			b.t.Errorf("%s: no moment of history", name)
		}
	} else if !errors.Is(err, fs.ErrDamaged) {
		b.t.Errorf("%s: %v", name, err)
	}
}

// putInPlace does as an error says that named newer roots, and checks that the vault opens then.
func (b *bench) putInPlace(path string, said error, c *torn, fm *film) {
	b.t.Helper()
	for _, name := range oldRoot.FindAllString(said.Error(), -1) {
		p, err := blockcrypt.ParseRootPrefix([]byte(c.objects[name]))
		if err != nil || c.objects[p.KeyFile.Name] == "" {
			continue
		}
		must(b.t, os.WriteFile(filepath.Join(path, "root"), []byte(c.objects[name]), 0o600))
		m := b.mustOpen(path, fs.Options{ReadOnly: true}, fm.history)
		if !strings.Contains(m.f.Status().Older, "no moment is complete") {
			m.isMoment("with " + name + " in the place of root")
		}
		m.kill()
		o := machine("alpha")
		o.Takeover, o.AcceptOlder = true, true
		if m, err = b.open(path, o, fm.history); err == nil {
			m.kill()
		} else if !errors.Is(err, fs.ErrIncomplete) {
			b.t.Fatalf("with %s in the place of root: %v", name, err)
		}
		return
	}
}
