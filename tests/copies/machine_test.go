package copies

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/keystore"
	"envfs/remote/dir"
)

// rootAt opens the root of a vault.
func (b *bench) rootAt(path string) *blockcrypt.Root {
	b.t.Helper()
	return b.rootIn(path, "root")
}

// rootIn returns the root that the object name holds, a copy maybe; nil if it is not there or torn.
func (b *bench) rootIn(path, name string) *blockcrypt.Root {
	b.t.Helper()
	st, err := dir.Open(path, dir.Options{ReadOnly: true})
	must(b.t, err)
	defer st.Close()
	file, prefix, err := fs.Peek(ctx, st, "")
	must(b.t, err)
	keys, err := b.keys.unlock(file, prefix.KeyFile)
	must(b.t, err)
	data, err := os.ReadFile(filepath.Join(path, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	must(b.t, err)
	root, err := blockcrypt.Vault{Suite: blockcrypt.Suite(file.Params().Suite), ID: file.VaultID()}.OpenRoot(keys, data)
	if name != "root" && err != nil {
		return nil
	}
	must(b.t, err)
	return root
}

// predecessors returns the copies of the roots that the root at path goes on from, the last first, as far as they are
// there and whole, and the name of the one before these.
func (b *bench) predecessors(path string) (names []string) {
	b.t.Helper()
	for root := b.rootAt(path); root != nil && root.Predecessor.Name != ""; root = b.rootIn(path, root.Predecessor.Name) {
		names = append(names, root.Predecessor.Name)
	}
	return names
}

// identities returns where the root of a closed vault says that it lies, and where it does.
func (b *bench) identities(path string) (recorded, actual string) {
	b.t.Helper()
	st, err := dir.Open(path, dir.Options{ReadOnly: true})
	must(b.t, err)
	defer st.Close()
	id, err := st.Identity(ctx)
	must(b.t, err)
	return string(b.rootAt(path).Identity), string(id)
}

// TestCopies copies closed and unclean vaults: each copy opens for writing without a flag, and both go on.
func TestCopies(t *testing.T) {
	for endName, end := range ways {
		for _, how := range []string{"cp", "rsync", "another file system"} {
			t.Run(endName+", "+how, func(t *testing.T) {
				b := newBench(t)
				path, h := b.origin()
				m := b.mustOpen(path, machine("alpha"), h)
				end(m, "third")
				to := filepath.Join(b.dir(), "vault")
				switch how {
				case "cp":
					run(t, "cp", "-a", path, to)
				case "rsync":
					run(t, "rsync", "-a", path+"/", to+"/")
				case "another file system":
					to = t.TempDir() // origin lies in memory
					run(t, "cp", "-a", path+"/.", to)
				}
				if recorded, actual := b.identities(to); recorded == actual {
					t.Fatal("the copy passes for the original")
				}
				copied := b.mustOpen(to, machine("alpha"), h.clone())
				copied.is("the copy", h.now)
				copied.work("copy")
				copied.close()
				if recorded, actual := b.identities(to); recorded != actual {
					t.Errorf("root records %x, lies at %x", recorded, actual)
				}
				b.quiet(to, copied.history)

				m = b.mustOpen(path, machine("alpha"), h)
				m.is("the original", h.now)
				m.work("original")
				m.close()
				b.quiet(path, h)

				before := objects(t, path)
				b.join(path, to, to)
				if m, err := b.open(path, machine("alpha"), nil); !errors.Is(err, fs.ErrFork) {
					if err == nil {
						m.kill()
					}
					t.Fatalf("both, joined: %v", err)
				}
				delete(before, "root")
				keeps(t, path, before)
			})
		}
	}
}

// TestOtherWriter opens a vault that another machine, or another user of this one, has left open.
func TestOtherWriter(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	m := b.mustOpen(path, machine("alpha"), h)
	m.work("third")
	m.fold()
	m.work("fourth")
	m.kill()

	elsewhere := machine("alpha")
	elsewhere.StateID = machine("other").StateID
	for _, o := range []fs.Options{machine("beta"), elsewhere} {
		before := objects(t, path)
		if m, err := b.open(path, o, nil); !errors.Is(err, fs.ErrOtherWriter) {
			if err == nil {
				m.kill()
			}
			t.Fatalf("%s: %v", o.Host, err)
		}
		keeps(t, path, before)
		if n := len(added(t, path, before)); n > 0 {
			t.Errorf("%d objects were made by refusing", n)
		}
	}
	m = b.mustOpen(path, machine("alpha"), h)
	m.is("the same machine", h.now)
	m.work("fifth")
	m.kill()
	o := machine("beta")
	o.Takeover = true
	m = b.mustOpen(path, o, h)
	m.is("taken over", h.now)
	m.work("sixth")
	m.kill()
	if m, err := b.open(path, machine("alpha"), nil); !errors.Is(err, fs.ErrOtherWriter) {
		if err == nil {
			m.kill()
		}
		t.Fatalf("the first machine again: %v", err)
	}
	m = b.mustOpen(path, machine("beta"), h)
	m.is("the second machine again", h.now)
	m.close()
	b.quiet(path, h)
}

// TestRootReplaced puts another root in the place of a running writer's.
func TestRootReplaced(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	other := b.duplicate(path)
	oldRoot, err := os.ReadFile(filepath.Join(path, "root"))
	must(t, err)
	mb := b.mustOpen(other, machine("beta"), h.clone())
	mb.work("b")
	mb.close()
	foreign, err := os.ReadFile(filepath.Join(other, "root"))
	must(t, err)

	steps := map[string]func(m *mount) error{
		"fold":  func(m *mount) error { return m.f.Fold(ctx) },
		"close": func(m *mount) error { return m.f.Close(ctx) },
		"keys":  func(m *mount) error { return m.f.ChangeKeys(ctx, b.rotate) },
		"fold after the grace": func(m *mount) error {
			b.clock.advance(100 * 24 * time.Hour)
			return m.f.Fold(ctx)
		},
	}
	roots := map[string][]byte{"another's": foreign, "an older": oldRoot, "none": nil}
	for stepName, step := range steps {
		for rootName, root := range roots {
			t.Run(rootName+", "+stepName, func(t *testing.T) {
				path := b.duplicate(path)
				m := b.mustOpen(path, machine("alpha"), h.clone())
				m.t = t
				m.work("a")
				m.fold()
				m.work("aa")
				if root != nil {
					must(t, os.WriteFile(filepath.Join(path, ".t"), root, 0o600))
					must(t, os.Rename(filepath.Join(path, ".t"), filepath.Join(path, "root")))
				} else {
					must(t, os.Remove(filepath.Join(path, "root")))
				}
				before := objects(t, path)
				if err := step(m); err == nil {
					t.Error("went on")
				}
				if m.f.Status().Stopped == "" {
					t.Error("status does not say that writing has stopped")
				}
				if _, _, err := m.f.Mkdir(ctx, m.f.Root(), "more", 0o700, fs.Cred{}); !errors.Is(err, fs.ErrStopped) {
					t.Errorf("writing: %v", err)
				}
				if err := m.f.Fold(ctx); !errors.Is(err, fs.ErrStopped) {
					t.Errorf("folding: %v", err)
				}
				m.f.Close(ctx) // it has an error to tell
				for name, data := range objects(t, path) {
					if old, ok := before[name]; ok && len(old) <= len(data) && old == data[:len(old)] {
						delete(before, name) // what grows may have grown
					}
				}
				for name := range before {
					t.Errorf("%s is gone or changed", name)
				}
			})
		}
	}
}

func (b *bench) rotate(old *keystore.Vault) (*keystore.Vault, error) {
	b.keys.forget(old)
	return old.Rotate(b.rand, b.clock.Now())
}

// TestForkOfKeys has one machine change the keys while another writes.
func TestForkOfKeys(t *testing.T) {
	b := newBench(t)
	pathA, h := b.origin()
	pathB := b.duplicate(pathA)
	ma := b.mustOpen(pathA, machine("alpha"), h.clone())
	ma.work("a")
	ma.kill()
	mb := b.mustOpen(pathB, machine("beta"), h.clone())
	mb.work("b")
	must(t, mb.f.ChangeKeys(ctx, b.rotate))
	mb.work("bb")
	mb.kill()
	for _, side := range []struct{ own, other *mount }{{ma, mb}, {mb, ma}} {
		joined := b.duplicate(pathA)
		b.join(joined, pathB, side.own.path)
		before := objects(t, joined)
		for _, o := range []fs.Options{machine("alpha"), machine("beta")} {
			o.Takeover, o.AcceptOlder = true, true
			if m, err := b.open(joined, o, nil); !errors.Is(err, fs.ErrFork) {
				if err == nil {
					m.kill()
				}
				t.Fatalf("root of %s: %v", side.own.path, err)
			}
		}
		m := b.mustOpen(joined, fs.Options{ReadOnly: true}, nil)
		m.is("the side of root", side.own.now)
		m.kill()
		m = b.mustOpen(joined, fs.Options{RootName: newestRoot(t, side.other.path)}, nil)
		m.is("the other side", side.other.now)
		m.kill()
		keeps(t, joined, before)
	}
}

// TestOlderKeys goes on from a moment before the keys were changed: the keys stay the new ones.
func TestOlderKeys(t *testing.T) {
	b := newBench(t)
	path, h := b.origin()
	backup := b.duplicate(path)
	old := h.clone()
	m := b.mustOpen(path, machine("alpha"), h)
	must(t, m.f.ChangeKeys(ctx, b.rotate))
	m.work("third")
	m.close()
	path = b.duplicate(path)
	for name := range fresh(t, path, backup) {
		if n, err := blockcrypt.ParseName(name); err == nil && (n.Kind == blockcrypt.KindIndex || n.Kind == blockcrypt.KindSegment) {
			must(t, os.Remove(filepath.Join(path, name)))
		}
	}
	b.goOnFromOlder(path, old, fs.ErrIncomplete, fresh(t, path, backup))
}

// TestSetBackKeys restores a root that names an older key file over a newer one.
func TestSetBackKeys(t *testing.T) {
	b := newBench(t)
	origin, h := b.origin()
	rootBefore, err := os.ReadFile(filepath.Join(origin, "root"))
	must(t, err)
	for name, change := range map[string]func(*keystore.Vault) (*keystore.Vault, error){"slot added": b.addSlot, "rotated": b.rotate} {
		t.Run(name, func(t *testing.T) {
			path := b.duplicate(origin)
			m := b.mustOpen(path, machine("alpha"), h.clone())
			must(t, m.f.ChangeKeys(ctx, change))
			m.work("third")
			m.close()
			newest := newestRoot(t, path)
			must(t, os.WriteFile(filepath.Join(path, "root"), rootBefore, 0o600))
			before := objects(t, path)
			// Where a backup was restored to cannot be told from a copy whose root is older than the rest.
			if m, err := b.open(path, machine("alpha"), nil); !errors.Is(err, fs.ErrIncomplete) {
				if err == nil {
					m.kill()
				}
				t.Fatalf("went on under the old keys: %v", err)
			}
			keeps(t, path, before)
			data, err := os.ReadFile(filepath.Join(path, newest))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(path, "root"), data, 0o600))
			b.quiet(path, m.history)
		})
	}
}
