package tamper

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/fs/fusefs"
	"envfs/keystore"
	"envfs/remote/dir"
)

// verdict says whether an attack is noticed. The words are those of the table in docs/THREATS.md.
type verdict string

const (
	found    verdict = "found"
	pinned   verdict = "found only with pinned client state"
	harmless verdict = "without effect"
	unseen   verdict = "not found"
)

// attack is one row of the table: what somebody does who may write to the store, and what comes of it.
type attack struct {
	name    string
	verdict verdict
	effect  string // what users see, or why nothing is noticed
	cases   []attempt
}

// moment selects one of the fixture's states.
type moment func(*fixture) *state

func closed(f *fixture) *state { return f.second }
func begun(f *fixture) *state  { return f.begun }
func torn(f *fixture) *state   { return f.torn }

// attempt is one way to make an attack, and what is expected of it.
type attempt struct {
	name string
	on   moment // closed if nil
	do   func(i *intruder)

	refused error                   // opening fails with this error, for reading and writing
	readers error                   // opening fails with this error for writing only
	harmed  func(s *state) []string // paths that cannot be read; all others can, and are what they were
	shows   moment                  // what is read, if not what was there
	flagged func(s *state) []string // paths that check names although nothing of them is harmed
	object  bool                    // check names an object
	warned  string                  // a warning says this
	idle    bool                    // nothing is written afterwards: another attempt has shown what comes of it
}

// paths returns the same paths for every state.
func paths(p ...string) func(*state) []string { return func(*state) []string { return p } }

// all returns a directory and all that lies in it.
func all(dir string) func(*state) []string {
	return func(s *state) []string { return s.tree.below(dir) }
}

// reader opens the fixture's vault as the command does, and remembers what it has unlocked: a key file takes longer to
// unlock than all the rest.
type reader struct {
	*fixture
	keys     map[blockcrypt.Hash]*keystore.Vault
	provider keystore.Provider
	stateDir string
}

func newReader(t testing.TB, f *fixture) *reader {
	return &reader{fixture: f, keys: make(map[blockcrypt.Hash]*keystore.Vault), provider: f.Provider(t)}
}

func (r *reader) open(t testing.TB, o fs.Options) (*fs.FS, error) {
	store, err := dir.Open(r.Store, dir.Options{ReadOnly: o.ReadOnly})
	if err != nil {
		return nil, err
	}
	o.Store, o.Manual, o.Host, o.User, o.StateDir = store, true, "test", "test", r.stateDir
	o.Limits.Extent = 8
	v, err := r.openStore(t, o)
	if err != nil {
		err = errors.Join(err, store.Close())
	}
	return v, err
}

func (r *reader) openStore(t testing.TB, o fs.Options) (*fs.FS, error) {
	file, prefix, err := fs.Peek(t.Context(), o.Store, o.RootName)
	if err != nil {
		return nil, err
	}
	if o.Keys = r.keys[prefix.KeyFile.Hash]; o.Keys == nil {
		if o.Keys, err = file.Unlock(t.Context(), []keystore.Provider{r.provider}); err != nil {
			return nil, err
		}
		r.keys[prefix.KeyFile.Hash] = o.Keys
	}
	return fs.Open(t.Context(), o)
}

// mounted calls fn with a mount of the vault.
func (r *reader) mounted(t testing.TB, f *fs.FS, log *logBuffer, readOnly bool, fn func(root string)) {
	t.Helper()
	root := t.TempDir()
	s, err := fusefs.Mount(f, root, fusefs.Options{ReadOnly: readOnly, Log: log.logger()})
	must(t, err)
	fn(root)
	if err := s.Unmount(); err != nil {
		_ = s.Detach() // the first error tells more
		t.Fatal(err)
	}
}

// run makes one attempt and compares what comes of it with what is expected.
func (r *reader) run(t *testing.T, a *attempt) {
	on := a.on
	if on == nil {
		on = closed
	}
	s := on(r.fixture)
	s.restore(t, r.Store)
	a.do(&intruder{t: t, dir: r.Store, fixture: r.fixture, now: s})
	want := s.tree
	if a.shows != nil {
		want = a.shows(r.fixture).tree
	}
	before := list(t, r.Store)
	log := new(logBuffer)
	defer r.inspect(t, a, log)

	f, err := r.open(t, fs.Options{ReadOnly: true, Log: log.logger()})
	if a.refused != nil {
		refused(t, "reading", f, err, a.refused)
		f, err = r.open(t, fs.Options{Log: log.logger()})
		refused(t, "writing", f, err, a.refused)
		before.unchanged(t, r.Store)
		return
	}
	must(t, err)
	hurt := a.expected(s)
	r.check(t, a, s, f)
	r.mounted(t, f, log, true, func(root string) { hurt.equal(t, want.compare(t, root)) })
	must(t, f.Close(t.Context()))
	before.unchanged(t, r.Store)
	if a.readers != nil {
		f, err = r.open(t, fs.Options{Log: log.logger()})
		refused(t, "writing", f, err, a.readers)
		before.unchanged(t, r.Store)
		return
	}
	if !a.idle {
		r.goOn(t, want, hurt, log)
	}
}

// goOn mounts the vault for writing, works in it, and makes sure that this harms nothing more.
func (r *reader) goOn(t *testing.T, want tree, hurt harm, log *logBuffer) {
	if _, ok := hurt[""]; ok {
		return // nothing can be reached
	}
	f, err := r.open(t, fs.Options{Log: log.logger()})
	must(t, err)
	r.mounted(t, f, log, false, func(root string) {
		must(t, os.WriteFile(filepath.Join(root, "Zq-written"), []byte("afterwards"), 0o600))
	})
	must(t, f.Close(t.Context()))
	want = maps.Clone(want)
	delete(want, "") // it has a new name in it
	if hurt["Zq-paged"] == 0 {
		delete(want, "Zq-paged") // it takes long
	}
	f, err = r.open(t, fs.Options{ReadOnly: true, Log: log.logger()})
	must(t, err)
	r.mounted(t, f, log, true, func(root string) {
		hurt.equal(t, want.compare(t, root))
		if data, err := os.ReadFile(filepath.Join(root, "Zq-written")); string(data) != "afterwards" {
			t.Errorf("what was written afterwards reads %q: %v", data, err)
		}
	})
	must(t, f.Close(t.Context()))
}

// inspect reads the log: it names no files, tells of no panic, and is not silent about harm.
func (r *reader) inspect(t *testing.T, a *attempt, log *logBuffer) {
	text := log.String()
	for _, bad := range []string{"Zq", "panic", "goroutine"} {
		if strings.Contains(text, bad) {
			t.Errorf("the log has %q in it:\n%.2000s", bad, text)
		}
	}
	if a.harmed != nil && len(log.errors()) == 0 {
		t.Errorf("the log says nothing of the damage:\n%.2000s", text)
	}
	if !strings.Contains(text, a.warned) {
		t.Errorf("the log does not say %q:\n%.2000s", a.warned, text)
	}
	if t.Failed() {
		t.Logf("%.4000s", text)
	}
}

func refused(t *testing.T, what string, f *fs.FS, err, want error) {
	t.Helper()
	if err == nil {
		t.Errorf("opening for %s was not refused", what)
		_ = f.Close(t.Context())
	} else if !errors.Is(err, want) {
		t.Errorf("opening for %s: %v; not: %v", what, err, want)
	}
}

// expected returns the harm that an attempt should do.
func (a *attempt) expected(s *state) harm {
	h := make(harm)
	if a.harmed != nil {
		for _, path := range a.harmed(s) {
			if sampled(path) {
				h[path] = 1
			}
		}
	}
	return h
}

// equal compares the paths that are harmed.
func (h harm) equal(t *testing.T, got harm) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(h)) {
		if got[path] == 0 {
			t.Errorf("%q can be read; it should not", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if h[path] == 0 {
			t.Errorf("%q cannot be read (%d times); it should", path, got[path])
		}
	}
}

// check compares what check finds.
func (r *reader) check(t *testing.T, a *attempt, s *state, f *fs.FS) {
	t.Helper()
	want := make(map[string]bool)
	var closedDirs []string
	if a.harmed != nil {
		for _, path := range a.harmed(s) { // a directory comes before what lies in it
			if n := s.tree[path]; n != nil && n.mode.IsDir() && !slices.ContainsFunc(closedDirs, func(d string) bool { return within(d, path) }) {
				closedDirs = append(closedDirs, path)
				want["/"+strings.TrimPrefix(path+"/", "/")] = true
			} else if !slices.ContainsFunc(closedDirs, func(d string) bool { return within(d, path) }) {
				want["/"+path] = true
			}
		}
	}
	if a.flagged != nil {
		for _, path := range a.flagged(s) {
			want["/"+path] = true
		}
	}
	objects := 0
	res, err := f.Check(t.Context(), fs.CheckOptions{}, func(fd fs.Finding) {
		if fd.What == "" || fd.Harm == "" {
			t.Errorf("check says nothing of %q, %q", fd.Path, fd.Object)
		}
		if fd.Path == "" {
			objects++
			if len(want) == 0 && !a.object {
				t.Errorf("check finds %s: %s", fd.Object, fd.What)
			}
			return
		}
		if _, ok := want[fd.Path]; !ok {
			t.Errorf("check finds %q: %s", fd.Path, fd.What)
		}
		want[fd.Path] = false
	})
	if err != nil {
		t.Errorf("check: %v", err)
	}
	for path, missing := range want {
		if missing {
			t.Errorf("check does not name %q", path)
		}
	}
	if a.object && objects == 0 {
		t.Error("check names no object")
	}
	if (res.Damaged > 0) != (a.object || len(want) > 0) {
		t.Errorf("check counts %d damages", res.Damaged)
	}
}

func within(dir, path string) bool {
	return dir == "" || path == dir || strings.HasPrefix(path, dir+"/")
}

// TestTampering makes one vault and attacks it in every way.
func TestTampering(t *testing.T) {
	f := newFixture(t)
	r := newReader(t, f)
	t.Run("attacks", func(t *testing.T) { testAttacks(t, r) })
	t.Run("bits", func(t *testing.T) { testBits(t, r) })
	t.Run("rollbacks", func(t *testing.T) { testRollbacks(t, f) })
	t.Run("forged", func(t *testing.T) { testForgedBlock(t, f) })
}

// testAttacks makes every attack of the table.
func testAttacks(t *testing.T, r *reader) {
	for _, a := range attacks() {
		for i := range a.cases {
			c := &a.cases[i]
			if c.name == "" {
				c.name = fmt.Sprint(i + 1)
			}
			t.Run(slug(a.name)+"/"+slug(c.name), func(t *testing.T) { r.run(t, c) })
		}
	}
}

func slug(name string) string { return strings.ReplaceAll(name, " ", "-") }
