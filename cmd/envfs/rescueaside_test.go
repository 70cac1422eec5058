package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"envfs/blockcrypt"
	vfs "envfs/fs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lay writes files below a directory.
func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600))
	}
}

// lies returns the files below a directory.
func lies(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	must(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		files[rel] = string(data)
		return err
	}))
	return files
}

func newDirs(t *testing.T) dirs {
	t.Helper()
	d := dirs{state: filepath.Join(t.TempDir(), "[stores]", "id")} // nothing takes that for a pattern
	lay(t, d.state, map[string]string{"journal/1": "one"})
	lay(t, d.state+keptSuffix, map[string]string{"root": "root", "journal/0": "zero"})
	return d
}

var laid = map[string]string{"state/journal/1": "one", "kept/root": "root", "kept/journal/0": "zero"}

// What was being set aside when the process ended is set aside by the next, together.
func TestSetAsideCutOff(t *testing.T) {
	for _, renames := range []int{-1, 0, 1, 2} { // that were done
		d := newDirs(t)
		aside := d.state + asideSuffix + "20200101T000000Z"
		if renames >= 0 {
			must(t, os.Mkdir(aside, 0o700))
		}
		if renames >= 1 {
			must(t, os.Rename(d.state+keptSuffix, filepath.Join(aside, asideKept)))
			must(t, os.MkdirAll(filepath.Join(d.state+keptSuffix, "journal"), 0o700)) // whoever opens the store makes it
		}
		if renames == 2 {
			must(t, os.Rename(d.state, filepath.Join(aside, asideState)))
		} else {
			must(t, d.setAside())
		}
		left, err := d.asides()
		must(t, err)
		if len(left) != 1 || !maps.Equal(lies(t, left[0]), laid) {
			t.Errorf("after %d: %q", renames, lies(t, filepath.Dir(d.state)))
		}
		if exists(d.state) {
			t.Error("the state is there still")
		}
	}
}

// Of two that were set aside in one second each has a directory of its own.
func TestSetAsideTwice(t *testing.T) {
	d := newDirs(t)
	must(t, d.setAside())
	lay(t, d.state, map[string]string{"journal/2": "two"})
	lay(t, d.state+keptSuffix, map[string]string{"root": "later"})
	must(t, d.setAside())
	left, err := d.asides()
	must(t, err)
	if len(left) != 2 || !maps.Equal(lies(t, left[0]), laid) || lies(t, left[1])["kept/root"] != "later" {
		t.Errorf("set aside: %q", lies(t, filepath.Dir(d.state)))
	}
}

// What was brought back is found no more, whenever its removal ends; what is damaged stays.
func TestRemoveAside(t *testing.T) {
	d := newDirs(t)
	lay(t, d.state, map[string]string{"damaged/a": "old", "damaged/b": "b"})
	must(t, d.setAside())
	lay(t, d.state, map[string]string{"damaged/a": "new"})
	lay(t, d.state+doneSuffix+"20200101T000000Z", map[string]string{"state/journal/1": "half removed"})
	left, err := d.asides()
	must(t, err)
	must(t, d.removeAside(left[0]))
	want := map[string]string{"id/damaged/a": "new", "id/damaged/a~2": "old", "id/damaged/b": "b"}
	if got := lies(t, filepath.Dir(d.state)); !maps.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
	if left, err := d.asides(); err != nil || len(left) > 0 {
		t.Errorf("set aside: %q, %v", left, err)
	}
}

// What lies in a directory outside of the vault already stays as it is.
func TestPlainTarget(t *testing.T) {
	top := t.TempDir()
	bring := func(data string, sec int64) {
		target := &plainTarget{top: top, base: filepath.Join(top, "rescued", "here")}
		st := vfs.Stat{Mode: 0o640, Size: uint64(len(data)), Mtime: blockcrypt.Time{Sec: sec}}
		must(t, target.Dir(t.Context(), "d", vfs.Stat{Mode: 0o755}, nil))
		must(t, target.File(t.Context(), "d/f", st, nil, bytes.NewReader([]byte(data))))
		must(t, target.Link(t.Context(), "d/f", "d/link"))
		must(t, target.Symlink(t.Context(), "d/s", vfs.Stat{}, data))
		must(t, target.sync())
	}
	names := func() (all []string) {
		entries, err := os.ReadDir(filepath.Join(top, "rescued/here/d"))
		must(t, err)
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	bring("one", 1)
	bring("one", 1)
	if got := names(); !slices.Equal(got, []string{"f", "link", "s"}) {
		t.Errorf("%q", got)
	}
	bring("two", 2)
	if got := names(); !slices.Equal(got, []string{"f", "f~2", "link", "link~2", "s", "s~2"}) {
		t.Errorf("%q", got)
	}
	for name, want := range map[string]string{"f": "one", "link": "one", "f~2": "two", "link~2": "two"} {
		if data, err := os.ReadFile(filepath.Join(top, "rescued/here/d", name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}
