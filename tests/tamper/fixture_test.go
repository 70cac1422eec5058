package tamper

import (
	"bytes"
	cryptorand "crypto/rand"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"envfs/fs"
	"envfs/keystore"
	"envfs/tests/mountpoint"
)

// state is a vault at one moment: what lies on the store, what a mount of it shows, and which objects that takes.
type state struct {
	*snapshot
	tree tree
	*catalog
}

// fixture is one vault at several moments of its life, on one store.
type fixture struct {
	*mountpoint.Vault
	first  *state // closed
	second *state // closed, after changes
	begun  *state // with a journal that no fold has taken in: one segment. Its catalog is that of second
	torn   *state // with a journal of two segments, of two mounts
	third  *state // closed, after both
	shared *state // closed; another holder has a slot

	// rotated is after that slot's removal, and changes under the new key epoch.
	rotated *state
	former  *keystore.Vault // what the removed holder knows
	other   keystore.Provider
}

const (
	seed       = 20260101
	manyNames  = 1_100 // more than an index holds without shards
	pagedRuns  = 2_300 // more than a header holds
	pagedEvery = 2     // so that they are spread over more than one page of the map
)

// newRand returns a source that gives the same at each run.
func newRand(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }

// content is text that no two files, blocks or moments have in common, and that does not compress to nothing.
func content(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// newFixture makes the vault. All names in it begin with Zq, which no name of an object has.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{Vault: mountpoint.NewVault(t)}
	r := newRand(1)
	f.first = f.closed(t, func(root string) { makeTree(t, r, root) })
	f.second = f.closed(t, func(root string) { changeTree(t, r, root) })
	f.begun = f.killed(t, f.second, func(root string) { journalTree(t, r, root, "Zq-j1") })
	f.torn = f.killed(t, f.begun, func(root string) { journalTree(t, r, root, "Zq-j2") })
	f.third = f.closed(t, func(string) {})
	f.share(t, func(root string) {
		must(t, os.WriteFile(filepath.Join(root, "Zq-small"), content(r, 9_000), 0o644))
	})
	return f
}

// share gives somebody else a slot, takes it away, and works on.
func (f *fixture) share(t testing.TB, work func(root string)) {
	t.Helper()
	other, err := keystore.KeyFile(content(newRand(2), 32))
	must(t, err)
	f.other = other
	f.second.restore(t, f.Store)
	v := f.Open(t, options().FS)
	must(t, v.ChangeKeys(t.Context(), func(k *keystore.Vault) (*keystore.Vault, error) {
		return k.AddSlot(t.Context(), cryptorand.Reader, time.Now(), keystore.NewSlot{Label: "other", Provider: other})
	}))
	must(t, v.Close(t.Context()))
	f.shared = f.closed(t, func(string) {})
	file, err := keystore.Parse(f.shared.objects["envfs.json"])
	must(t, err)
	f.former, err = file.Unlock(t.Context(), []keystore.Provider{other})
	must(t, err)
	t.Cleanup(f.former.Close)
	v = f.Open(t, options().FS)
	must(t, v.ChangeKeys(t.Context(), func(k *keystore.Vault) (*keystore.Vault, error) {
		return k.RemoveSlot(cryptorand.Reader, time.Now(), f.former.OpenedBy().ID, false)
	}))
	must(t, v.Close(t.Context()))
	f.rotated = f.closed(t, work)
}

// newStranger returns the objects of another vault, which was not closed.
func newStranger(t testing.TB) map[string][]byte {
	t.Helper()
	v := mountpoint.NewVault(t)
	m := v.Mount(t, options())
	must(t, os.WriteFile(filepath.Join(m.Dir, "Zq-other-vault"), []byte("x"), 0o600))
	objects := readObjects(t, v.Store)
	m.Unmount(t)
	return objects
}

// options are those of every mount here: nothing happens by itself, extents are small.
func options() mountpoint.Options {
	return mountpoint.Options{FS: fs.Options{Manual: true, Limits: fs.Limits{Extent: 8}}}
}

// closed mounts the vault, works in it, and returns what there is after a clean unmount.
func (f *fixture) closed(t testing.TB, work func(root string)) *state {
	t.Helper()
	m := f.Mount(t, options())
	work(m.Dir)
	m.Unmount(t)
	s := &state{snapshot: takeSnapshot(t, f.Store)}
	s.catalog = newCatalog(t, f.unlock(t), s.objects)
	s.tree = f.look(t)
	return s
}

// killed mounts the vault as it was at one moment, works in it, and returns what there is if the daemon dies then.
func (f *fixture) killed(t testing.TB, from *state, work func(root string)) *state {
	t.Helper()
	from.restore(t, f.Store)
	m := f.Mount(t, options())
	work(m.Dir)
	s := &state{snapshot: takeSnapshot(t, f.Store), catalog: from.catalog}
	m.Unmount(t)
	s.restore(t, f.Store)
	s.tree = f.look(t)
	return s
}

// look returns what the vault shows.
func (f *fixture) look(t testing.TB) tree {
	t.Helper()
	o := options()
	o.FS.ReadOnly = true
	m := f.Mount(t, o)
	defer m.Unmount(t)
	return readTree(t, m.Dir)
}

// unlock returns the keys of the vault's newest key file.
func (f *fixture) unlock(t testing.TB) *keystore.Vault {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.Store, "envfs.json"))
	must(t, err)
	return f.unlockFile(t, data)
}

func (f *fixture) unlockFile(t testing.TB, data []byte) *keystore.Vault {
	t.Helper()
	file, err := keystore.Parse(data)
	must(t, err)
	keys, err := file.Unlock(t.Context(), []keystore.Provider{f.Provider(t)})
	must(t, err)
	t.Cleanup(keys.Close)
	return keys
}

func makeTree(t testing.TB, r *rand.Rand, root string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	put := func(name string, n int) { must(t, os.WriteFile(at(name), content(r, n), 0o644)) }
	for _, d := range []string{"Zq-many", "Zq-deep", "Zq-deep/Zq-2", "Zq-deep/Zq-2/Zq-3", "Zq-other", "Zq-void", "Zq-attrs"} {
		must(t, os.Mkdir(at(d), 0o755))
	}
	put("Zq-tiny", 5)
	put("Zq-small", 10_000)
	put("Zq-twin-a", 12_000)
	put("Zq-twin-b", 12_000)
	put("Zq-extents", 20*pageSize+123)
	put("Zq-extents-b", 20*pageSize+123)
	put("Zq-empty", 0)
	put("Zq-gone", 9_000)
	put("Zq-gone-big", 9*pageSize)
	put("Zq-hard", 10_000)
	must(t, os.Link(at("Zq-hard"), at("Zq-other/Zq-hard-2")))
	put("Zq-other/Zq-neighbour", 6_000)
	must(t, os.Symlink("Zq-target/of/the link", at("Zq-link")))
	put("Zq-deep/Zq-2/Zq-3/Zq-leaf", 7_000)
	put("Zq-deep/Zq-2/Zq-beside", 3_000)
	put("Zq-xattr", 100)
	must(t, unix.Setxattr(at("Zq-xattr"), "user.Zq-large", content(r, 2000), 0))
	must(t, unix.Setxattr(at("Zq-tiny"), "user.Zq-little", []byte("value"), 0))
	must(t, unix.Setxattr(at("Zq-attrs"), "user.Zq-large", content(r, 1500), 0))
	put("Zq-attrs/Zq-inside", 50)
	for i := range manyNames {
		put(fmt.Sprintf("Zq-many/Zq-%d", i), 0)
	}
	f, err := os.Create(at("Zq-paged"))
	must(t, err)
	defer f.Close()
	for i := range int64(pagedRuns) {
		_, err := f.WriteAt(content(r, pageSize), i*pagedEvery*pageSize)
		must(t, err)
	}
}

// changeTree leaves older versions of every kind of object behind.
func changeTree(t testing.TB, r *rand.Rand, root string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	overwrite := func(name string, off int64, n int) {
		f, err := os.OpenFile(at(name), os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(content(r, n), off)
		must(t, err)
		must(t, f.Close())
	}
	overwrite("Zq-small", 0, 10_000)
	overwrite("Zq-extents", 3*pageSize, pageSize)
	overwrite("Zq-extents", 9*pageSize, 2*pageSize)
	overwrite("Zq-extents-b", 0, 20*pageSize)
	overwrite("Zq-paged", 6*pageSize, pageSize)
	must(t, os.Chmod(at("Zq-tiny"), 0o600))
	must(t, os.Remove(at("Zq-gone")))
	must(t, os.Remove(at("Zq-gone-big")))
	must(t, os.Remove(at("Zq-many/Zq-7")))
	must(t, os.WriteFile(at("Zq-many/Zq-new"), nil, 0o644))
	must(t, os.WriteFile(at("Zq-other/Zq-late"), content(r, 5_000), 0o644))
	must(t, os.WriteFile(at("Zq-deep/Zq-2/Zq-3/Zq-late"), content(r, 5_000), 0o644))
}

// journalTree does what a killed daemon leaves in the journal: some of it synced, the last operations not.
func journalTree(t testing.TB, r *rand.Rand, root, prefix string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	synced := func(name string, n int) {
		f, err := os.Create(at(name))
		must(t, err)
		_, err = f.Write(content(r, n))
		must(t, err)
		must(t, f.Sync())
		must(t, f.Close())
	}
	for i := range 4 {
		synced(fmt.Sprintf("%s-synced-%d", prefix, i), 6_000)
	}
	synced(prefix+"-big", 20*pageSize)
	must(t, os.WriteFile(at("Zq-other/Zq-neighbour"), content(r, 6_000), 0o644))
	synced(prefix+"-after", 300)
	must(t, os.WriteFile(at(prefix+"-last"), content(r, 900), 0o644))
}

// logBuffer gathers what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// errors returns the lines that tell of errors.
func (l *logBuffer) errors() (lines []string) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, "level=ERROR") {
			lines = append(lines, line)
		}
	}
	return lines
}
