package dir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"envfs/remote"
	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

var crashModes = []struct {
	name string
	mode memfs.Mode
}{
	{"kill", memfs.ModePrefix},
	{"drop all", memfs.ModeDropAll},
	{"random", memfs.ModeRandom},
	{"torn", memfs.ModeTorn},
	{"random, like ext4", memfs.ModeRandom | memfs.NamesOnSync},
	{"drop all, like ext4", memfs.ModeDropAll | memfs.NamesOnSync},
}

// history is what a workload did and was promised. Each promise is a mark in the log.
type history struct {
	m        *memfs.FS
	promised map[string]promise // by mark
	roots    [][]byte           // as they followed each other; nil: none
}

// promise is what is to be there once its mark is in the log.
type promise struct {
	objects map[string][]byte // at least this content
	root    int               // index in history.roots
}

func (h *history) promise(p promise) {
	mark := fmt.Sprint(len(h.promised))
	h.promised[mark] = p
	h.m.Mark(mark)
}

// run works on a store over fs, which stands on h.m, for some random steps.
func (h *history) run(t *testing.T, rng *rand.Rand, fs dir.FS) {
	t.Helper()
	ctx := context.Background()
	s, err := dir.Open("mem", dir.Options{FS: fs})
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(err)
	defer func() { ok(s.Close()) }()
	ok(s.Lock())

	put := make(map[string][]byte) // durable after the next Sync
	type growing struct {
		remote.File
		name         string
		data, synced []byte
	}
	var files []*growing
	random := func(n int) []byte {
		p := make([]byte, rng.IntN(n))
		for i := range p {
			p[i] = byte(1 + rng.IntN(255)) // no zeros, which holes are made of
		}
		return p
	}
	for step := range 30 {
		n := int(rng.Uint32() >> 16)
		switch rng.IntN(6) {
		case 0, 1:
			name, data := object(n), random(3000)
			err := s.Put(ctx, name, data)
			if errors.Is(err, remote.ErrExist) {
				continue
			}
			ok(err)
			put[name] = data
			if rng.IntN(20) == 0 { // so many that they are synced in another way
				for i := range 300 {
					name := object(1<<16 + step<<10 + i)
					if err := s.Put(ctx, name, data[:len(data)/64]); err == nil {
						put[name] = data[:len(data)/64]
					}
				}
			}
		case 2:
			f, err := s.Create(ctx, segment(n))
			if errors.Is(err, remote.ErrExist) {
				continue
			}
			ok(err)
			files = append(files, &growing{File: f, name: segment(n)})
		case 3:
			if len(files) == 0 {
				continue
			}
			f := files[rng.IntN(len(files))]
			p := random(2000)
			ok(f.Append(p))
			f.data = append(f.data, p...)
			if rng.IntN(2) == 0 {
				ok(f.Sync())
				f.synced = bytes.Clone(f.data)
			}
		case 4:
			ok(s.Sync(ctx))
			for _, f := range files {
				put[f.name] = f.synced
			}
			h.promise(promise{objects: put, root: -1})
			put = make(map[string][]byte)
		case 5:
			old := h.roots[len(h.roots)-1]
			data := append(fmt.Appendf(nil, "root %d ", step), random(2000)...)
			h.roots = append(h.roots, data) // from now on it may be there
			h.m.Mark(fmt.Sprintf("replacing %d", len(h.roots)-1))
			ok(s.Replace(ctx, "root", old, func([]byte) ([]byte, error) { return data, nil }))
			h.promise(promise{root: len(h.roots) - 1})
		}
	}
	for _, f := range files {
		ok(f.Close())
	}
}

// check says what is missing in a state after the marks.
func (h *history) check(state *memfs.FS, marks []string) error {
	ctx := context.Background()
	s, err := dir.Open("mem", dir.Options{FS: state})
	if err != nil {
		return err
	}
	defer s.Close() // read-only
	oldest, newest := 0, 0
	for _, mark := range marks {
		if _, err := fmt.Sscanf(mark, "replacing %d", &newest); err == nil {
			continue
		}
		p := h.promised[mark]
		for name, want := range p.objects {
			got, err := s.Get(ctx, name, 1<<30)
			if err != nil {
				return err
			}
			if !bytes.HasPrefix(got, want) {
				return fmt.Errorf("%s: %d bytes were promised, %d are there, others", name, len(want), len(got))
			}
		}
		oldest = max(oldest, p.root)
	}
	got, err := s.Get(ctx, "root", 1<<30)
	if errors.Is(err, remote.ErrNotExist) {
		got, err = nil, nil
	}
	if err != nil {
		return err
	}
	for i := oldest; i <= newest; i++ {
		if bytes.Equal(got, h.roots[i]) && (got == nil) == (h.roots[i] == nil) {
			return nil
		}
	}
	return fmt.Errorf("the root of %d bytes is none of %d to %d", len(got), oldest, newest)
}

// crashes runs workloads over fs and power losses after them, twice in a row, until a promise is broken or n workloads
// are done. It returns what was broken.
func crashes(t *testing.T, rng *rand.Rand, n int, over func(dir.FS) dir.FS) error {
	t.Helper()
	for range n {
		m := memfs.New()
		m.SetCanSyncFS(rng.IntN(2) == 0)
		h := &history{m: m, promised: make(map[string]promise), roots: [][]byte{nil}}
		h.run(t, rng, over(m))
		if err := h.crash(rng, 20); err != nil {
			return err
		}
		// What a crash has left is worked on, and crashes again.
		l := m.Log()
		next := l.State(rng, rng.IntN(l.Len()+1), memfs.ModeRandom)
		root, err := openDir(t, "mem", dir.Options{FS: next}).Get(t.Context(), "root", 1<<30)
		if err != nil && !errors.Is(err, remote.ErrNotExist) {
			return err
		}
		h = &history{m: next, promised: make(map[string]promise), roots: [][]byte{root}}
		h.run(t, rng, over(next))
		if err := h.crash(rng, 10); err != nil {
			return fmt.Errorf("second crash: %w", err)
		}
	}
	return nil
}

// crash checks n moments in all modes.
func (h *history) crash(rng *rand.Rand, n int) error {
	l := h.m.Log()
	for range n {
		upto := rng.IntN(l.Len() + 1)
		for _, c := range crashModes {
			state := l.State(rng, upto, c.mode)
			if err := h.check(state, l.Marks(upto)); err != nil {
				return fmt.Errorf("%s after %d operations: %w\n%s", c.name, upto, err, state.Schedule())
			}
		}
	}
	return nil
}

func newRand(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestPromisesHoldAfterPowerLoss: after Put and Sync, or Create, Append, File.Sync and Store.Sync, every crash leaves
// the object whole; Replace leaves old or new, and new once it has returned.
func TestPromisesHoldAfterPowerLoss(t *testing.T) {
	if err := crashes(t, newRand(t), 20, func(fs dir.FS) dir.FS { return fs }); err != nil {
		t.Fatal(err)
	}
}

// TestSyncsAtOnce: a Sync that shares another's work returns only when what was put before it is durable.
func TestSyncsAtOnce(t *testing.T) {
	rng := newRand(t)
	m := memfs.New()
	s := openDir(t, "mem", dir.Options{FS: m})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 40 {
				name := object(worker<<8 | i)
				if err := errors.Join(s.Put(t.Context(), name, []byte(name)), s.Sync(t.Context())); err != nil {
					t.Error(err)
					return
				}
				m.Mark(name)
			}
		})
	}
	wg.Wait()
	l := m.Log()
	for range 50 {
		upto := rng.IntN(l.Len() + 1)
		state := openDir(t, "mem", dir.Options{FS: l.State(rng, upto, memfs.ModeDropAll)})
		for _, name := range l.Marks(upto) {
			got, err := state.Get(t.Context(), name, 100)
			if err != nil || string(got) != name {
				t.Fatalf("after %d operations: %q, %v", upto, got, err)
			}
		}
	}
}

// TestPowerLossFindsMutants: file systems that leave out one thing are stores that do; the test above must see it.
func TestPowerLossFindsMutants(t *testing.T) {
	for name, mutant := range map[string]func(dir.FS) dir.FS{
		"no fsync of directories": func(fs dir.FS) dir.FS {
			return &mutantFS{FS: fs, syncDir: func(string) bool { return true }}
		},
		"no fsync of the store's own directory": func(fs dir.FS) dir.FS {
			return &mutantFS{FS: fs, syncDir: func(name string) bool { return name == "" }}
		},
		"no fsync of the parents of new directories": func(fs dir.FS) dir.FS {
			return &mutantFS{FS: fs, syncDir: func(name string) bool { return name == "files" }}
		},
		"no fsync of objects' directories": func(fs dir.FS) dir.FS {
			return &mutantFS{FS: fs, syncDir: func(name string) bool { return strings.HasPrefix(name, "files/") }}
		},
		"no fdatasync":           func(fs dir.FS) dir.FS { return &mutantFS{FS: fs, datasync: true} },
		"no fsync of a new root": func(fs dir.FS) dir.FS { return &mutantFS{FS: fs, sync: true} },
		"a root that is removed before it is replaced": func(fs dir.FS) dir.FS {
			return &mutantFS{FS: fs, removeFirst: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := crashes(t, newRand(t), 200, mutant)
			if err == nil {
				t.Fatal("not found")
			}
			first, _, _ := strings.Cut(err.Error(), "\n")
			t.Log(first)
		})
	}
}

// mutantFS leaves out some of what it is asked for.
type mutantFS struct {
	dir.FS
	syncDir        func(name string) bool
	syncFS         bool
	sync, datasync bool
	removeFirst    bool
}

func (m *mutantFS) SyncDir(name string) error {
	if m.syncDir != nil && m.syncDir(name) {
		return nil
	}
	return m.FS.SyncDir(name)
}

func (m *mutantFS) SyncFS() error {
	if m.syncFS {
		return nil
	}
	return m.FS.SyncFS()
}

func (m *mutantFS) Rename(oldname, newname string) error {
	if m.removeFirst {
		if err := m.FS.Remove(newname); err != nil {
			return err
		}
	}
	return m.FS.Rename(oldname, newname)
}

func (m *mutantFS) Create(name string) (dir.File, error) {
	f, err := m.FS.Create(name)
	return &mutantFile{File: f, m: m}, err
}

type mutantFile struct {
	dir.File
	m *mutantFS
}

func (f *mutantFile) Sync() error {
	if f.m.sync {
		return nil
	}
	return f.File.Sync()
}

func (f *mutantFile) Datasync() error {
	if f.m.datasync {
		return nil
	}
	return f.File.Datasync()
}
