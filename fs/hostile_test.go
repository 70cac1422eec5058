package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"envfs/blockcrypt"
	remotedir "envfs/remote/dir"
)

// lay puts something at a place of the store.
func (r *rig) lay(name string, data []byte) {
	r.t.Helper()
	path := filepath.Join(r.path, name)
	must(r.t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(r.t, os.WriteFile(path, data, 0o600))
}

// Files beside root that only look like it do not bar the vault, whatever they are: a backup of root, an archive.
func TestOddFilesBesideRoot(t *testing.T) {
	r := newRig(t)
	r.write("a", pattern(100, 1))
	r.close()
	r.lay("root.old.tar", make([]byte, 100_000))
	r.lay("root.conflict", nil)
	r.lay("roots/3-aebagbafaydqqcikbmga2", make([]byte, 100_000))
	must(t, os.Symlink("/etc/passwd", filepath.Join(r.path, "root.link")))
	must(t, os.Mkdir(filepath.Join(r.path, "root.d"), 0o700))
	r.open()
	if got := r.names("/"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("names %q", got)
	}
}

// What lies in root's place and is no root is damage, not an error of the machine.
func TestNoRootInRootsPlace(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"too large": func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) },
		"empty":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		r := newRig(t)
		r.close()
		root := filepath.Join(r.path, "root")
		must(t, os.Remove(root))
		must(t, put(root))
		st, err := remotedir.Open(r.path, r.storeOptions())
		must(t, err)
		if _, _, err := Peek(t.Context(), st, ""); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		must(t, st.Close())
	}
}

// Of copies of roots that are cut off each counts, also if they are cut off alike.
func TestRootsCutOffAlike(t *testing.T) {
	r := newRig(t)
	for i := range 12 {
		r.write("a", pattern(100+i, 1))
		must(t, r.fs.Fold(t.Context()))
	}
	seq := r.fs.root.Seq
	r.close()
	for _, n := range []uint64{1, seq + 10} {
		r.lay(fmt.Sprintf("roots/%d-aebagbafaydqqcikbmga2", n), nil)
	}
	if err := r.openErr(); !errors.Is(err, ErrSetBack) {
		t.Errorf("with a newer root that is cut off: %v", err)
		return
	}
	must(t, os.Remove(filepath.Join(r.path, fmt.Sprintf("roots/%d-aebagbafaydqqcikbmga2", seq+10))))
	r.open()
}

// Numbers in the names of objects that nobody vouches for do not drive the vault's own to their end.
func TestNumbersThatNobodyVouchesFor(t *testing.T) {
	const r0 = "aebagbafaydqqcikbmga2"
	for _, n := range []uint64{1<<64 - 1, 1<<64 - 2, 1 << 63, 1<<63 - 1} {
		for _, name := range []string{"folds/%d-" + r0, "journal/%d-1-" + r0, "journal/1-%d-" + r0, "roots/%d-" + r0} {
			name := fmt.Sprintf(name, n)
			r := newRig(t)
			r.write("a", pattern(100, 1))
			r.close()
			before, term := *r.rootNow(), len(r.rootNow().Terms)
			r.lay(name, nil)
			r.opts.AcceptOlder = true
			r.open()
			r.opts.AcceptOlder = false
			r.write("b", pattern(100, 2))
			must(t, r.fs.Fold(t.Context()))
			r.abandon()
			r.open()
			r.write("c", pattern(100, 2))
			r.close()
			after := r.rootNow()
			if after.Seq < before.Seq || after.Seq > before.Seq+1000 || after.LastFold < before.LastFold || after.LastFold > before.LastFold+1000 ||
				after.Terms[len(after.Terms)-1].Number > uint64(term)+1000 || after.Terms[len(after.Terms)-1].Number < uint64(term) {
				t.Errorf("%s: root %d, fold %d, term %d", name, after.Seq, after.LastFold, after.Terms[len(after.Terms)-1].Number)
			}
			r.open()
			if got := r.names("/"); !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("%s: names %q", name, got)
			}
		}
	}
}

// rootNow returns the root of a vault that is closed.
func (r *rig) rootNow() *blockcrypt.Root {
	r.t.Helper()
	r.open()
	defer r.abandon()
	data, err := r.fs.store.Get(r.t.Context(), blockcrypt.RootName, blockcrypt.MaxRoot)
	must(r.t, err)
	root, err := r.fs.vault.OpenRoot(r.fs.keyring(), data)
	must(r.t, err)
	return root
}

// A segment that somebody has made huge is no reason to take memory for what is not there, or to read it for hours.
func TestHugeTail(t *testing.T) {
	r := newRig(t)
	r.write("a", pattern(100, 1))
	must(t, r.fs.Sync(t.Context()))
	segments, err := filepath.Glob(filepath.Join(r.path, "journal/*"))
	must(t, err)
	r.abandon()
	must(t, os.Truncate(segments[0], 1<<42))
	r.open()
	must(t, r.fs.Fold(t.Context()))
	r.write("b", pattern(100, 2))
	must(t, r.fs.Fold(t.Context()))
	r.close()
	r.open()
	if got := r.names("/"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("names %q", got)
	}
}
