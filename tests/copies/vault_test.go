// Package copies tests what becomes of a vault that was copied, joined with another copy of itself, or set back: forks
// are recognised and nothing is deleted, copies open at a moment of history, and say which.
package copies

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/keystore"
	"envfs/remote"
	"envfs/remote/dir"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock goes on only when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var fixedKey = bytes.Repeat([]byte{7}, 32)

// unlocked remembers the key files that were opened, as this takes longer than all the rest.
type unlocked struct {
	mu   sync.Mutex
	keys map[blockcrypt.Hash]*keystore.Vault
}

func newUnlocked() *unlocked { return &unlocked{keys: make(map[blockcrypt.Hash]*keystore.Vault)} }

func (u *unlocked) unlock(file *keystore.File, ref blockcrypt.ObjRef) (*keystore.Vault, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if v := u.keys[ref.Hash]; v != nil {
		return v, nil
	}
	p, err := keystore.KeyFile(fixedKey)
	if err != nil {
		return nil, err
	}
	v, err := file.Unlock(ctx, []keystore.Provider{p})
	if err != nil {
		return nil, err
	}
	u.keys[ref.Hash] = v
	return v, nil
}

// forget has keys opened anew that one machine has changed: it wipes what others would need to change them, too.
func (u *unlocked) forget(v *keystore.Vault) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.keys, func(_ blockcrypt.Hash, held *keystore.Vault) bool { return held == v })
}

// bench is where a test's vaults lie. Its clock is that of all machines.
type bench struct {
	t     *testing.T
	clock *clock
	rand  io.Reader // where names and keys come from
	keys  *unlocked
	watch func(*dir.Store) remote.Store // stands between a vault and its store, if set
}

func newBench(t *testing.T) *bench {
	return &bench{t: t, clock: newClock(), rand: rand.Reader, keys: newUnlocked()}
}

// dir returns a new directory, in memory if that is possible: nothing here depends on what a disk would keep.
func (b *bench) dir() string {
	dir, err := os.MkdirTemp("/dev/shm", "envfs-copies-")
	if err != nil {
		return b.t.TempDir()
	}
	b.t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newVault makes an empty vault.
func (b *bench) newVault() string {
	b.t.Helper()
	path := filepath.Join(b.dir(), "vault")
	b.makeVault(path, "")
	return path
}

func (b *bench) makeVault(path, stateDir string) {
	b.t.Helper()
	p, err := keystore.KeyFile(fixedKey)
	must(b.t, err)
	params := keystore.Params{Suite: keystore.SuiteAESGCM, BlockSize: 4096, SmallFile: 16 << 10, ExtentSize: 4 << 20}
	keys, err := keystore.Create(b.rand, b.clock.Now(), params, []keystore.NewSlot{{Label: "test", Provider: p}})
	must(b.t, err)
	defer keys.Close()
	st, err := dir.Create(path, dir.Options{})
	must(b.t, err)
	defer st.Close()
	must(b.t, fs.Init(ctx, st, keys, fs.InitOptions{Clock: b.clock, Rand: b.rand, Host: "cradle", User: "me", StateDir: stateDir}))
}

// mount is an open vault and, if it is written, the memory of all that it ever was.
type mount struct {
	*bench
	f    *fs.FS
	st   *dir.Store
	path string
	log  *bytes.Buffer
	*history
}

// machine returns the options of one that writes.
func machine(host string) fs.Options {
	o := fs.Options{Host: host, User: "user"}
	copy(o.StateID[:], host)
	return o
}

// open opens the vault at path. The history says what it was up to now; nil begins a new one.
func (b *bench) open(path string, o fs.Options, h *history) (*mount, error) {
	m := &mount{bench: b, path: path, log: new(bytes.Buffer), history: h}
	var err error
	if m.st, err = dir.Open(path, dir.Options{ReadOnly: o.ReadOnly || o.RootName != ""}); err != nil {
		return nil, err
	}
	file, prefix, err := fs.Peek(ctx, m.st, o.RootName)
	if err == nil {
		o.Keys, err = b.keys.unlock(file, prefix.KeyFile)
	}
	if err != nil {
		m.st.Close()
		return nil, err
	}
	o.Store, o.Manual, o.Clock, o.Rand = m.st, true, b.clock, b.rand
	if b.watch != nil {
		o.Store = b.watch(m.st)
	}
	o.Log = slog.New(slog.NewTextHandler(m.log, nil))
	if o.Limits.Extent == 0 {
		o.Limits.Extent = 8
	}
	if m.f, err = fs.Open(ctx, o); err != nil {
		m.st.Close()
		return nil, err
	}
	if m.history == nil {
		m.history = newHistory()
	}
	return m, nil
}

func (b *bench) mustOpen(path string, o fs.Options, h *history) *mount {
	b.t.Helper()
	m, err := b.open(path, o, h)
	if err != nil {
		b.t.Fatalf("open %s on %s: %v", path, o.Host, err)
	}
	return m
}

// kill lets go of the vault as kill -9 would.
func (m *mount) kill() {
	m.t.Helper()
	must(m.t, m.st.Close())
}

func (m *mount) close() {
	m.t.Helper()
	must(m.t, m.f.Close(ctx))
}

func (m *mount) fold() {
	m.t.Helper()
	must(m.t, m.f.Fold(ctx))
}

// objects returns the files of a store that are objects of the vault.
func objects(t *testing.T, path string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	must(t, filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		m[strings.TrimPrefix(p, path+"/")] = string(data)
		return nil
	}))
	return m
}

// keeps checks that nothing which was there before is gone or changed.
func keeps(t *testing.T, path string, before map[string]string) {
	t.Helper()
	now := objects(t, path)
	for name, data := range before {
		if got, ok := now[name]; !ok {
			t.Errorf("%s was deleted", name)
		} else if got != data {
			t.Errorf("%s was changed", name)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// duplicate copies the vault at path to another directory.
func (b *bench) duplicate(path string) string {
	b.t.Helper()
	to := filepath.Join(b.dir(), "vault")
	run(b.t, "cp", "-a", path, to)
	return to
}

// join brings what lies in from, and not in to, there; what both have stays as it is in to, but for the root, which
// comes from the one that is named.
func (b *bench) join(to, from, rootOf string) {
	b.t.Helper()
	root, err := os.ReadFile(filepath.Join(rootOf, "root"))
	must(b.t, err)
	run(b.t, "rsync", "-a", "--ignore-existing", from+"/", to+"/")
	temp := filepath.Join(to, ".sync")
	must(b.t, os.WriteFile(temp, root, 0o600))
	must(b.t, os.Rename(temp, filepath.Join(to, "root")))
}

// newestRoot returns the name in roots/ of the copy of a store's root.
func newestRoot(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path, "root"))
	must(t, err)
	p, err := blockcrypt.ParseRootPrefix(data)
	must(t, err)
	return p.Name().String()
}
