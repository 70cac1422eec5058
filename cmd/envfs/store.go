package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"envfs/blockcrypt"
	"envfs/cmd/envfs/internal/secret"
	"envfs/cmd/envfs/internal/state"
	"envfs/fs"
	"envfs/keystore"
	"envfs/remote"
	"envfs/remote/dir"
)

// progressPeriod is how often progress is reported.
const progressPeriod = 100 * time.Millisecond

// storePath returns the one spelling of a store's path.
func storePath(arg string) (string, error) {
	if isBucket(arg) {
		return bucketAddress(arg)
	}
	if scheme, _, ok := strings.Cut(arg, "://"); ok {
		return "", fmt.Errorf("%w: open %s: %s:// is not known; a store is a directory or s3://BUCKET/PREFIX?endpoint=https://HOST", errUsage, arg, scheme)
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", arg, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("open %s: %w", arg, fs.ErrNoVault)
	}
	if err != nil {
		return "", fmt.Errorf("open %s: %w", arg, err)
	}
	if st, err := os.Stat(real); err == nil && !st.IsDir() {
		return "", fmt.Errorf("open %s: not a directory: %w", arg, fs.ErrNoVault)
	}
	return real, nil
}

// openStore opens the store at a path that [storePath] returned.
func openStore(ctx context.Context, path string, o openOptions, log *slog.Logger) (remote.Store, error) {
	if isBucket(path) {
		return openBucket(ctx, path, o, log)
	}
	return openDir(path, o.ReadOnly)
}

// localOf returns the part of a store that a writer locks.
func localOf(s remote.Store) (remote.Local, bool) {
	if shared, ok := s.(remote.Shared); ok {
		return shared.Local(), true
	}
	local, ok := s.(remote.Local)
	return local, ok
}

func openDir(path string, readOnly bool) (*dir.Store, error) {
	s, err := dir.Open(path, dir.Options{ReadOnly: readOnly})
	if errors.Is(err, remote.ErrNotExist) {
		err = fmt.Errorf("%w: %w", fs.ErrNoVault, err)
	}
	return s, err
}

// peek reads what of a vault can be read without a key.
func peek(ctx context.Context, path, root string) (*keystore.File, blockcrypt.RootPrefix, error) {
	var s remote.Store
	var err error
	if isBucket(path) {
		s, err = openFar(path, true, firstContact, slog.New(slog.DiscardHandler))
	} else {
		s, err = openDir(path, true)
	}
	if err != nil {
		return nil, blockcrypt.RootPrefix{}, err
	}
	defer s.Close()
	kf, prefix, err := fs.Peek(ctx, s, root)
	if err != nil {
		return nil, prefix, fmt.Errorf("%s: %w", storeName(path), err)
	}
	return kf, prefix, nil
}

// deriver computes passphrases' secrets in a short-lived child of this program, so that this one's memory stays small.
func deriver() (keystore.Deriver, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return keystore.ChildProcess(self, kdfVerb), nil
}

// unlock opens a key file with the secrets, which it wipes.
func unlock(ctx context.Context, kf *keystore.File, b *secret.Bundle) (*keystore.Vault, error) {
	defer b.Wipe()
	derive, err := deriver()
	if err != nil {
		return nil, err
	}
	providers, err := b.Providers(derive)
	if err != nil {
		return nil, err
	}
	keys, err := kf.Unlock(ctx, providers)
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// vault is an open vault.
type vault struct {
	*fs.FS
	keys   *keystore.Vault
	bucket *bucket // nil: the store is a directory
}

// openOptions says how to open a vault.
type openOptions struct {
	ReadOnly    bool   `json:"read_only"`
	AcceptOlder bool   `json:"accept_older"`
	Takeover    bool   `json:"takeover"`
	Root        string `json:"root,omitempty"`
	ShowNames   bool   `json:"show_names,omitempty"`
	CacheSize   int64  `json:"cache_size,omitempty"` // of what is fetched from a bucket, in bytes; 0: the default
	StateSize   int64  `json:"state_size,omitempty"` // of what waits to be published, in bytes; 0: the default

	// Wait is how long a bucket that is away is waited for; 0: the default.
	Wait          time.Duration `json:"wait,omitempty"`
	SyncPublishes bool          `json:"sync_publishes,omitempty"` // fsync returns when what was written is in the bucket
	Follow        bool          `json:"follow,omitempty"`         // keep up with who writes to the bucket
	state.Places

	overtaken func() error // called, while the store is locked, if the vault is refused with fs.ErrOvertaken
}

// open opens the vault in the store at path with the secrets, which it wipes.
func open(ctx context.Context, path string, b *secret.Bundle, o openOptions, log *slog.Logger,
	progress func(stage string, done, total int64)) (*vault, error) {
	defer b.Wipe()
	var keys *keystore.Vault
	v, err := openBy(ctx, path, func(kf *keystore.File) (*keystore.Vault, error) {
		var err error
		keys, err = unlock(ctx, kf, b)
		return keys, err
	}, o, log, progress)
	if err != nil && keys != nil {
		keys.Close()
	}
	return v, err
}

// openWith opens the vault in the store at path with keys that stay the caller's.
func openWith(ctx context.Context, path string, keys *keystore.Vault, o openOptions, log *slog.Logger,
	progress func(stage string, done, total int64)) (*vault, error) {
	return openBy(ctx, path, func(*keystore.File) (*keystore.Vault, error) { return keys, nil }, o, log, progress)
}

func openBy(ctx context.Context, path string, by func(*keystore.File) (*keystore.Vault, error), o openOptions, log *slog.Logger,
	progress func(stage string, done, total int64)) (v *vault, err error) {
	o.ReadOnly = o.ReadOnly || o.Root != "" || o.Follow
	id, err := identify(o.Places)
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, path, o, log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, store.Close())
		}
	}()
	if !o.ReadOnly {
		local, ok := localOf(store)
		if !ok {
			return nil, fmt.Errorf("%s: %w", storeName(path), remote.ErrReadOnly)
		}
		if err := lock(local, path, o.Places); err != nil {
			return nil, err
		}
	}
	kf, _, err := fs.Peek(ctx, store, o.Root)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", storeName(path), err)
	}
	keys, err := by(kf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", storeName(path), err)
	}
	var limits fs.Limits
	if isBucket(path) {
		limits.Extent = bucketExtent
	}
	f, err := fs.Open(ctx, fs.Options{
		Limits: limits,
		Store:  store, Keys: keys, ReadOnly: o.ReadOnly, AcceptOlder: o.AcceptOlder, Takeover: o.Takeover, RootName: o.Root,
		StateDir: state.Pins(id.state), StateID: id.stateID, Host: id.host, User: id.user, Log: log, ShowNames: o.ShowNames,
		Clock: clock{}, Rand: rand.Reader, Progress: progress, Follow: o.Follow, SyncPublishes: o.SyncPublishes, PublishWait: o.Wait,
	})
	if err != nil {
		if o.overtaken != nil && errors.Is(err, fs.ErrOvertaken) {
			err = errors.Join(err, o.overtaken())
		}
		return nil, otherWriter(path, err, time.Now())
	}
	v = &vault{FS: f, keys: keys}
	v.bucket, _ = store.(*bucket)
	return v, nil
}

// Close closes the vault and wipes its keys.
func (v *vault) Close(ctx context.Context) error {
	err := v.FS.Close(ctx)
	v.keys.Close()
	return err
}

// identity is who opens vaults here.
type identity struct {
	host, user string
	state      string
	stateID    blockcrypt.ID
}

func identify(at state.Places) (id identity, err error) {
	if id.state, err = at.StateDir(); err != nil {
		return id, err
	}
	if id.stateID, err = state.ID(id.state); err != nil {
		return id, err
	}
	if id.host, err = os.Hostname(); err != nil {
		return id, fmt.Errorf("find the name of this host: %w", err)
	}
	id.user = fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		id.user = u.Username
	}
	return id, nil
}

// clock is the machine's clock.
type clock struct{}

func (clock) Now() time.Time { return time.Now() }

// newLog returns a logger that writes lines of text to w.
func newLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
