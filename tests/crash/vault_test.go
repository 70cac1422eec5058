package crash

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"envfs/fs"
	"envfs/keystore"
	"envfs/remote"
	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

// source returns random numbers that depend on all of the seeds.
func source(seeds ...uint64) *rand.ChaCha8 {
	var b []byte
	for _, s := range seeds {
		b = binary.LittleEndian.AppendUint64(b, s)
	}
	return rand.NewChaCha8(sha256.Sum256(b))
}

// seeded returns what can stand in for the system's random source.
func seeded(seeds ...uint64) io.Reader { return &lockedReader{r: source(seeds...)} }

type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
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

func (c *clock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// opener opens the key files of vaults. It remembers those it has opened, as this takes longer than all the rest.
type opener struct {
	mu   sync.Mutex
	keys map[string]*keystore.Vault // by the key file's bytes
	all  []*keystore.Vault
}

func (o *opener) unlock(ctx context.Context, file *keystore.File, data []byte) (*keystore.Vault, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if v := o.keys[string(data)]; v != nil {
		return v, nil
	}
	v, err := unlockAny(ctx, file)
	if err != nil {
		return nil, err
	}
	if o.keys == nil {
		o.keys = make(map[string]*keystore.Vault)
	}
	o.keys[string(data)] = v
	o.all = append(o.all, v)
	return v, nil
}

// close wipes the keys of all vaults. Nobody uses them any more.
func (o *opener) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, v := range o.all {
		v.Close()
	}
	o.all, o.keys = nil, nil
}

// supersede forgets the vault of a key file, after which another has come.
func (o *opener) supersede(data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.keys, string(data))
}

// unlockNewest opens the key file that root names.
func (o *opener) unlockNewest(ctx context.Context, st remote.Store, file *keystore.File) (*keystore.Vault, error) {
	_, prefix, err := fs.Peek(ctx, st, "")
	if err != nil {
		return nil, err
	}
	data, err := st.Get(ctx, prefix.KeyFile.Name, 1<<20)
	if err != nil {
		return nil, err
	}
	return o.unlock(ctx, file, data)
}

// initVault makes a vault.
func initVault(ctx context.Context, m dir.FS, rnd io.Reader, c *clock) error {
	first, err := newSlot(0)
	if err != nil {
		return err
	}
	params := keystore.Params{Suite: keystore.SuiteAESGCM, BlockSize: pageSize, SmallFile: 16 << 10, ExtentSize: 4 << 20}
	keys, err := keystore.Create(rnd, c.Now(), params, []keystore.NewSlot{first})
	if err != nil {
		return err
	}
	defer keys.Close()
	st, err := dir.Create("vault", dir.Options{FS: m})
	if err != nil {
		return err
	}
	defer st.Close()
	return fs.Init(ctx, st, keys, fs.InitOptions{Clock: c, Rand: rnd, Host: "here", User: "me"})
}

// open opens the vault on m.
func (o *opener) open(ctx context.Context, m dir.FS, opts fs.Options) (*fs.FS, error) {
	st, err := dir.Open("vault", dir.Options{FS: m, ReadOnly: opts.ReadOnly})
	if err != nil {
		return nil, err
	}
	f, err := o.openOn(ctx, st, opts)
	if err != nil {
		st.Close() // the first error tells more
		return nil, err
	}
	return f, nil
}

func (o *opener) openOn(ctx context.Context, st remote.Store, opts fs.Options) (*fs.FS, error) {
	file, prefix, err := fs.Peek(ctx, st, opts.RootName)
	if err != nil {
		return nil, fmt.Errorf("peek: %w", err)
	}
	data, err := st.Get(ctx, prefix.KeyFile.Name, 1<<20)
	if err != nil {
		return nil, err
	}
	if opts.Keys, err = o.unlock(ctx, file, data); err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	if opts.Host == "" {
		opts.Host = "here"
	}
	opts.Store, opts.Manual, opts.User = st, true, "me"
	return fs.Open(ctx, opts)
}

// stage is a file system that lets a test act at the moment when an object is about to be made.
type stage struct {
	*memfs.FS
	onCreate func(name string) error
}

func (s *stage) Create(name string) (dir.File, error) {
	if s.onCreate != nil {
		if err := s.onCreate(name); err != nil {
			return nil, err
		}
	}
	return s.FS.Create(name)
}
