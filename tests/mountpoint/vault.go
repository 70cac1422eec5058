// Package mountpoint makes vaults in temporary directories and mounts them within the test's own process, for tests
// of the whole system. It needs root, or a /dev/fuse that the user may open and fusermount3.
//
// A test must not map files of such a mount into its memory: the kernel holds locks on the process's memory while it
// waits for requests about the mapping, which this very process has to answer. Another process can.
package mountpoint

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"envfs/fs"
	"envfs/keystore"
	"envfs/remote/dir"
)

// Vault is a vault with one slot, of a random key file. Its fields must not be changed.
type Vault struct {
	Store string   // directory of its objects
	Key   [32]byte // the key file
}

// NewVault makes a vault with the usual sizes. It vanishes with the test.
func NewVault(t testing.TB) *Vault {
	t.Helper()
	return NewVaultWith(t, keystore.DefaultParams(keystore.SuiteAESGCM))
}

// NewVaultWith makes a vault with sizes and suite p.
func NewVaultWith(t testing.TB, p keystore.Params) *Vault {
	t.Helper()
	v := &Vault{Store: filepath.Join(t.TempDir(), "store")}
	rand.Read(v.Key[:])
	keys, err := keystore.Create(rand.Reader, time.Now(), p, []keystore.NewSlot{{Label: "test", Provider: v.Provider(t)}})
	if err != nil {
		t.Fatalf("make keys: %v", err)
	}
	defer keys.Close()
	store, err := dir.Create(v.Store, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = fs.Init(t.Context(), store, keys, fs.InitOptions{Clock: clock{}, Rand: rand.Reader, Host: "test", User: "test",
		Owner: fs.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}})
	if err != nil {
		t.Fatalf("make a vault: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return v
}

type clock struct{}

func (clock) Now() time.Time { return time.Now() }

// Provider returns what opens the vault's slot.
func (v *Vault) Provider(t testing.TB) keystore.Provider {
	t.Helper()
	p, err := keystore.KeyFile(v.Key[:])
	if err != nil {
		t.Fatalf("use the key file: %v", err)
	}
	return p
}

// Open opens the vault for writing unless o says otherwise; o.Store and o.Keys are filled in if they are nil. The
// caller closes it, before the test ends.
func (v *Vault) Open(t testing.TB, o fs.Options) *fs.FS {
	t.Helper()
	f, err := v.TryOpen(t, o)
	if err != nil {
		t.Fatalf("open the vault: %v", err)
	}
	return f
}

// TryOpen is Open for tests that expect an error.
func (v *Vault) TryOpen(t testing.TB, o fs.Options) (*fs.FS, error) {
	t.Helper()
	if o.Store == nil {
		store, err := dir.Open(v.Store, dir.Options{ReadOnly: o.ReadOnly || o.RootName != ""})
		if err != nil {
			t.Fatal(err)
		}
		o.Store = store
	}
	if o.Keys == nil {
		kf, _, err := fs.Peek(t.Context(), o.Store, o.RootName)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := kf.Unlock(t.Context(), []keystore.Provider{v.Provider(t)})
		if err != nil {
			t.Fatalf("unlock: %v", err)
		}
		t.Cleanup(keys.Close)
		o.Keys = keys
	}
	if o.Host == "" {
		o.Host, o.User = "test", "test"
	}
	if o.Log == nil {
		o.Log = Log(t)
	}
	f, err := fs.Open(t.Context(), o)
	if err != nil {
		_ = o.Store.Close() // the first error tells more
	}
	return f, err
}
