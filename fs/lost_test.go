package fs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"envfs/blockcrypt"
	"envfs/remote"
)

// lose has a publish what published does, do what later does, and be overtaken; it returns a, open again, and what it
// had, after edit has changed what was set aside of it.
func lose(t *testing.T, published, later func(a *machine), edit func(a *machine, aside string)) (a *machine, lost *FS, want map[string]string) {
	t.Helper()
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("a"), machines("b")
	a.mustOpen(Options{})
	published(a)
	must(t, a.fs.Publish(ctx))
	later(a)
	must(t, a.fs.Sync(ctx))
	want = dump(t, a.fs)
	a.kill()
	b.mustOpen(Options{Takeover: true})
	b.write("b", pattern(100, 9))
	b.close()
	if err := a.open(Options{}); !errors.Is(err, ErrOvertaken) {
		t.Fatalf("open after being overtaken: %v", err)
	}
	lost = a.setAsideAs(func(aside string) {
		if edit != nil {
			edit(a, aside)
		}
	})
	t.Cleanup(func() { must(t, lost.Close(context.Background())) })
	a.mustOpen(Options{})
	return a, lost, want
}

// at returns a directory of the top one.
func (m *machine) at(name string) *Inode {
	m.t.Helper()
	ino, _, err := m.fs.Lookup(m.t.Context(), m.fs.Root(), name)
	must(m.t, err)
	return ino
}

// rescued returns what a rescue brings back.
func (m *machine) rescued(lost *FS) (*Rescued, map[string]string, error) {
	m.t.Helper()
	res, err := Rescue(m.t.Context(), lost, m.fs, &IntoVault{FS: m.fs, Base: "rescued/here"})
	tree := make(map[string]string)
	for name, is := range dump(m.t, m.fs) {
		if rest, ok := cutBase(name); ok {
			tree[rest] = is
		}
	}
	return res, tree, err
}

func cutBase(name string) (string, bool) {
	const base = "/rescued/here/"
	if len(name) <= len(base) || name[:len(base)] != base {
		return "", false
	}
	return name[len(base):], true
}

// removeAll removes what matches, which is to be something.
func removeAll(t *testing.T, pattern string) {
	t.Helper()
	found, err := filepath.Glob(pattern)
	must(t, err)
	if len(found) == 0 {
		t.Fatalf("nothing is like %s", pattern)
	}
	for _, name := range found {
		must(t, os.Remove(name))
	}
}

// A file of which something is gone is named, and hides none of the others.
func TestRescueLostExtent(t *testing.T) {
	ctx := t.Context()
	gone := ""
	isExtent := func(name string) bool {
		n, err := blockcrypt.ParseName(name)
		return err == nil && n.Kind == blockcrypt.KindExtent
	}
	a, lost, want := lose(t, func(a *machine) { a.write("old", pattern(100, 1)) }, func(a *machine) {
		a.write("first", pattern(400_000, 2))
		must(t, a.fs.Sync(ctx))
		must(t, filepath.WalkDir(filepath.Join(a.dir, "state"), func(name string, d fs.DirEntry, err error) error {
			if rel, _ := filepath.Rel(filepath.Join(a.dir, "state"), name); isExtent(filepath.ToSlash(rel)) {
				gone = rel
			}
			return err
		}))
		a.write("old", pattern(100, 3))
		a.write("second", pattern(400_000, 4))
	}, func(a *machine, aside string) {
		must(t, os.Remove(filepath.Join(aside, "state", gone)))
	})
	res, tree, err := a.rescued(lost)
	must(t, err)
	if !slices.Equal(res.Unreadable, []string{"/first"}) {
		t.Errorf("not to be read: %q", res.Unreadable)
	}
	if len(tree) != 2 || tree["old"] != want["/old"] || tree["second"] != want["/second"] {
		t.Errorf("brought back: %q", tree)
	}
	a.close()
}

// What is missing of the journal, or of what it builds on, is an error: what was set aside is to stay.
func TestRescueJournalNotWhole(t *testing.T) {
	ctx := t.Context()
	for what, edit := range map[string]func(a *machine, aside string){
		"a kept segment": func(_ *machine, aside string) { removeAll(t, filepath.Join(aside, "kept/journal/*")) },
		"the last fold":  func(a *machine, _ string) { removeAll(t, filepath.Join(a.far, "folds/*")) },
		"a segment from here": func(_ *machine, aside string) {
			found, err := filepath.Glob(filepath.Join(aside, "state/journal/*"))
			must(t, err)
			must(t, os.WriteFile(found[0], pattern(5000, 1), 0o600))
		},
	} {
		t.Run(what, func(t *testing.T) {
			machines := newShared(t)
			a, b := machines("a"), machines("b")
			a.mustOpen(Options{})
			a.write("old", pattern(50_000, 1))
			must(t, a.fs.Fold(ctx))
			a.write("old", pattern(60_000, 2))
			must(t, a.fs.Publish(ctx))
			a.write("old", pattern(50_000, 3))
			must(t, a.fs.Sync(ctx))
			a.kill()
			b.mustOpen(Options{Takeover: true})
			b.write("old", pattern(100, 9))
			must(t, b.fs.Fold(ctx))
			b.close()
			if err := a.open(Options{}); !errors.Is(err, ErrOvertaken) {
				t.Fatalf("open after being overtaken: %v", err)
			}
			removed := make(map[string][]byte)
			lost := a.setAsideAs(func(aside string) {
				folds, err := filepath.Glob(filepath.Join(a.far, "folds/*"))
				must(t, err)
				for _, name := range folds {
					removed[name], err = os.ReadFile(name)
					must(t, err)
				}
				if what == "a kept segment" { // b's fold is far behind, and has let go of it
					removeAll(t, filepath.Join(a.far, "journal/*"))
				}
				edit(a, aside)
			})
			for name, data := range removed {
				must(t, os.WriteFile(name, data, 0o600))
			}
			a.mustOpen(Options{})
			res, _, err := a.rescued(lost)
			if !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrDamaged) {
				t.Errorf("%+v, %v", res, err)
			}
			t.Log(err)
			must(t, lost.Close(context.Background()))
			a.close()
		})
	}
}

// A root that somebody put beside root, newer than the one that this machine knew, makes what was lost no older moment.
func TestRescueBesideOtherRoots(t *testing.T) {
	a, lost, want := lose(t, func(a *machine) { a.write("old", pattern(100, 1)) }, func(a *machine) { a.write("old", pattern(100, 2)) },
		func(a *machine, _ string) {
			data, err := os.ReadFile(filepath.Join(a.far, "root"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(a.far, "root.bak"), data, 0o600))
		})
	res, tree, err := a.rescued(lost)
	must(t, err)
	if len(res.Unreadable) > 0 || len(tree) != 1 || tree["old"] != want["/old"] {
		t.Errorf("brought back: %q, not to be read: %q", tree, res.Unreadable)
	}
	a.close()
}

// A file with several names that was only written to comes back, under all of them.
func TestRescueSeveralNames(t *testing.T) {
	ctx := t.Context()
	a, lost, want := lose(t, func(a *machine) {
		a.rig().mkdir("d")
		a.write("d/one", pattern(100, 1))
		a.rig().mkdir("e")
		file, _, err := a.fs.Lookup(ctx, a.at("d"), "one")
		must(t, err)
		_, _, err = a.fs.Link(ctx, file, a.at("e"), "two")
		must(t, err)
	}, func(a *machine) {
		file, _, err := a.fs.Lookup(ctx, a.at("d"), "one")
		must(t, err)
		h, err := a.fs.Open(ctx, file)
		must(t, err)
		defer h.Close()
		_, err = h.WriteAt(ctx, pattern(100, 2), 0, false)
		must(t, err)
	}, nil)
	res, tree, err := a.rescued(lost)
	must(t, err)
	if res.Files != 1 || tree["d/one"] != want["/d/one"] || tree["e/two"] != want["/e/two"] {
		t.Errorf("%+v: %q, want %q", res, tree, want)
	}
	a.close()
}

// A file that got another name in one directory comes back under all, also those in directories in which nothing was
// done, as one file; a second rescue adds nothing.
func TestRescueOtherNames(t *testing.T) {
	ctx := t.Context()
	link := func(a *machine, from, to, name string) {
		file, _, err := a.fs.Lookup(ctx, a.at(from), "one")
		must(t, err)
		_, _, err = a.fs.Link(ctx, file, a.at(to), name)
		must(t, err)
		a.fs.Forget(file, 1)
	}
	a, lost, want := lose(t, func(a *machine) {
		for _, dir := range []string{"c", "d", "e", "f"} {
			a.rig().mkdir(dir)
		}
		a.write("d/one", pattern(100, 1))
		link(a, "d", "c", "zero")
		link(a, "d", "e", "two")
		a.write("f/other", pattern(100, 3))
		must(t, a.fs.Fold(ctx))
	}, func(a *machine) {
		link(a, "d", "d", "more")
	}, nil)
	res, tree, err := a.rescued(lost)
	must(t, err)
	names := []string{"c/zero", "d/one", "d/more", "e/two"}
	for _, name := range names {
		if tree[name] != want["/"+name] || !strings.HasPrefix(tree[name], "4 names") {
			t.Errorf("%s came back as %q, was %q", name, tree[name], want["/"+name])
		}
	}
	if res.Files != 1 || len(tree) != len(names)+3 {
		t.Errorf("%+v: %q", res, tree)
	}
	_, again, err := a.rescued(lost)
	must(t, err)
	sameTree(t, "again", again, tree)
	a.close()
}

// A directory of which a part is gone is named; what the journal speaks of in it comes back.
func TestRescueDirectoryGone(t *testing.T) {
	ctx := t.Context()
	var id blockcrypt.ID
	a, lost, _ := lose(t, func(a *machine) {
		a.rig().mkdir("d")
		a.write("d/still", pattern(10, 1))
		must(t, a.fs.Fold(ctx))
	}, func(a *machine) {
		id = a.at("d").id
		a.write("d/new", pattern(10, 2))
		a.write("z", pattern(10, 3))
	}, func(a *machine, _ string) {
		must(t, filepath.WalkDir(a.far, func(name string, d fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(a.far, name)
			if n, perr := blockcrypt.ParseName(filepath.ToSlash(rel)); perr == nil && n.ID == id && n.Kind == blockcrypt.KindIndex {
				return os.Remove(name)
			}
			return err
		}))
	})
	res, err := Rescue(ctx, lost, a.fs, &IntoVault{FS: a.fs, Base: "rescued/here"})
	must(t, err)
	if !slices.Equal(res.Unreadable, []string{"/d"}) || res.Files != 2 {
		t.Errorf("%+v", res)
	}
	for name, want := range map[string][]byte{"d/new": pattern(10, 2), "z": pattern(10, 3)} {
		if got := a.rig().read("rescued/here/" + name); !bytes.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	a.close()
}

// A bucket that is away has damaged nothing: the rescue ends, and nothing is given up.
func TestRescueAway(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("a"), machines("b")
	var away atomic.Bool
	a.wrap = func(s remote.Store) remote.Store { return &awayExtents{s, &away} }
	a.mustOpen(Options{})
	a.write("large", pattern(400_000, 1))
	must(t, a.fs.Publish(ctx))
	a.rig().writeAt("large", []byte("changed"), 100_000)
	must(t, a.fs.Sync(ctx))
	want := dump(t, a.fs)
	a.kill()
	b.mustOpen(Options{Takeover: true})
	b.close()
	if err := a.open(Options{}); !errors.Is(err, ErrOvertaken) {
		t.Fatalf("open after being overtaken: %v", err)
	}
	lost := a.setAside()
	a.mustOpen(Options{})
	away.Store(true)
	if res, err := Rescue(ctx, lost, a.fs, &IntoVault{FS: a.fs, Base: "rescued/here"}); !errors.Is(err, errCutOff) || res != nil {
		t.Errorf("%+v, %v", res, err)
	}
	away.Store(false)
	res, tree, err := a.rescued(lost)
	must(t, err)
	if len(res.Unreadable) > 0 || tree["large"] != want["/large"] {
		t.Errorf("%+v: %q", res, tree)
	}
	must(t, lost.Close(ctx))
	a.close()
}

// awayExtents is a store that cannot be asked for extents while away says so.
type awayExtents struct {
	remote.Store
	away *atomic.Bool
}

func (s *awayExtents) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if n, err := blockcrypt.ParseName(name); err == nil && n.Kind == blockcrypt.KindExtent && s.away.Load() {
		return 0, errCutOff
	}
	return s.Store.ReadAt(ctx, name, p, off)
}
