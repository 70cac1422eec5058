package dir_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"envfs/remote"
	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

// failOnce has the first operation of a kind fail.
func failOnce(m *memfs.FS, kind memfs.Kind, err error) {
	done := false
	m.Fail(func(op memfs.Op) error {
		if op.Kind != kind || done {
			return nil
		}
		done = true
		return err
	})
}

func TestFailedSyncFailsForEver(t *testing.T) {
	for _, kind := range []memfs.Kind{memfs.OpSync, memfs.OpSyncDir, memfs.OpSyncFS} {
		t.Run(kind.String(), func(t *testing.T) {
			m := memfs.New()
			m.SetCanSyncFS(true)
			s := openDir(t, "mem", dir.Options{FS: m})
			objects := 1
			if kind == memfs.OpSyncFS {
				objects = 200
			}
			for i := range objects {
				put(t, s, object(i), "x")
			}
			failOnce(m, kind, syscall.EIO)
			for range 2 {
				if err := s.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
					t.Errorf("sync: %v, want EIO", err)
				}
			}
			err := s.Replace(t.Context(), "root", nil, func([]byte) ([]byte, error) { return nil, nil })
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("replace after a failed sync: %v, want EIO", err)
			}
			if names := list(t, s, "root"); len(names) != 0 {
				t.Errorf("listed %q", names)
			}
		})
	}
}

func TestFailedSyncOfAFileFailsForEver(t *testing.T) {
	m := memfs.New()
	s := openDir(t, "mem", dir.Options{FS: m})
	f, err := s.Create(t.Context(), segment(1))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	failOnce(m, memfs.OpSync, syscall.EIO)
	for range 2 {
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("sync: %v, want EIO", err)
		}
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Errorf("sync of the store, whose objects are fine: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	m := memfs.New()
	s := openDir(t, "mem", dir.Options{FS: m})
	ctx := t.Context()
	old := []byte("old root")
	if err := s.Replace(ctx, "root", nil, func([]byte) ([]byte, error) { return old, nil }); err != nil {
		t.Fatal(err)
	}
	f, err := s.Create(ctx, segment(1))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.SetCapacity(100)
	big := make([]byte, 200)
	for op, err := range map[string]error{
		"put":          s.Put(ctx, object(1), big),
		"replace":      s.Replace(ctx, "root", old, func([]byte) ([]byte, error) { return big, nil }),
		"append":       f.Append(big),
		"append again": f.Append(nil), // the end is unknown
	} {
		if !errors.Is(err, remote.ErrNoSpace) {
			t.Errorf("%s: %v, want ErrNoSpace", op, err)
		}
	}
	if names := list(t, s, "files/"); len(names) != 0 {
		t.Errorf("the torn object is left: %q", names)
	}
	if got, err := s.Get(ctx, "root", 100); err != nil || !bytes.Equal(got, old) {
		t.Errorf("root: %q, %v", got, err)
	}
	entries, err := m.ReadDir("")
	if err != nil || len(entries) != 3 { // files, journal, root
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// What is reserved is there when the disk is full, and is given back when the object is closed.
func TestReservedSpace(t *testing.T) {
	m := memfs.New()
	s := openDir(t, "mem", dir.Options{FS: m})
	m.SetCapacity(1000)
	f, err := s.Create(t.Context(), segment(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Reserve(700); err != nil {
		t.Fatal(err)
	}
	if err := f.Reserve(1001); !errors.Is(err, remote.ErrNoSpace) {
		t.Errorf("reserve more than there is: %v, want ErrNoSpace", err)
	}
	if err := s.Put(t.Context(), object(1), make([]byte, 301)); !errors.Is(err, remote.ErrNoSpace) {
		t.Errorf("put what does not fit beside it: %v, want ErrNoSpace", err)
	}
	put(t, s, object(2), string(make([]byte, 300)))
	for range 6 {
		if err := f.Append(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, s, object(3), string(make([]byte, 100)))
	m.Fail(func(op memfs.Op) error {
		if op.Kind == memfs.OpPreallocate {
			return syscall.EOPNOTSUPP
		}
		return nil
	})
	if f, err = s.Create(t.Context(), segment(2)); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Reserve(10); !errors.Is(err, remote.ErrUnsupported) {
		t.Errorf("reserve where that is not possible: %v, want ErrUnsupported", err)
	}
}

// Only where the old content is certainly there a replacement fails for want of space.
func TestReplaceOnAFullDisk(t *testing.T) {
	for kind, clear := range map[memfs.Kind]bool{memfs.OpCreate: true, memfs.OpWrite: true, memfs.OpSync: true, memfs.OpRename: true, memfs.OpSyncDir: false} {
		t.Run(kind.String(), func(t *testing.T) {
			m := memfs.New()
			s := openDir(t, "mem", dir.Options{FS: m})
			old := []byte("old")
			if err := s.Replace(t.Context(), "root", nil, func([]byte) ([]byte, error) { return old, nil }); err != nil {
				t.Fatal(err)
			}
			failOnce(m, kind, syscall.ENOSPC)
			err := s.Replace(t.Context(), "root", old, func([]byte) ([]byte, error) { return []byte("new"), nil })
			if err == nil || errors.Is(err, remote.ErrNoSpace) != clear {
				t.Errorf("error %v; clear: %v", err, clear)
			}
			if got, err := s.Get(t.Context(), "root", 100); err != nil || clear && !bytes.Equal(got, old) {
				t.Errorf("root: %q, %v", got, err)
			}
		})
	}
}

func TestErrorsOfTheSystem(t *testing.T) {
	for number, want := range map[syscall.Errno]error{
		syscall.ENOSPC: remote.ErrNoSpace,
		syscall.EDQUOT: remote.ErrNoSpace,
		syscall.EROFS:  remote.ErrReadOnly,
		syscall.EACCES: remote.ErrReadOnly,
		syscall.EPERM:  remote.ErrReadOnly,
		syscall.EIO:    nil,
	} {
		m := memfs.New()
		s := openDir(t, "mem", dir.Options{FS: m})
		put(t, s, object(1), "x")
		m.Fail(func(op memfs.Op) error { return number })
		ctx := t.Context()
		_, createErr := s.Create(ctx, segment(1))
		_, getErr := s.Get(ctx, object(1), 1)
		for op, err := range map[string]error{
			"put": s.Put(ctx, object(2), nil), "create": createErr, "delete": s.Delete(ctx, object(1)),
		} {
			if !errors.Is(err, number) || want != nil && !errors.Is(err, want) {
				t.Errorf("%s with %v: %v, want %v", op, number, err, want)
			}
		}
		if errors.Is(getErr, remote.ErrReadOnly) && number != syscall.EROFS {
			t.Errorf("get with %v: %v", number, getErr)
		}
		m.Fail(nil)
	}
}

// countingFS counts what is open, and can write less than it is given.
type countingFS struct {
	dir.FS
	open, most, writebacks atomic.Int64
	short                  bool
}

func (c *countingFS) count(f dir.File, err error) (dir.File, error) {
	if err != nil {
		return nil, err
	}
	n := c.open.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	return &countedFile{File: f, fs: c}, nil
}

func (c *countingFS) Open(name string) (dir.File, error)   { return c.count(c.FS.Open(name)) }
func (c *countingFS) Create(name string) (dir.File, error) { return c.count(c.FS.Create(name)) }

type countedFile struct {
	dir.File
	fs *countingFS
}

func (f *countedFile) Close() error {
	f.fs.open.Add(-1)
	return f.File.Close()
}

func (f *countedFile) Writeback(off, n int64) { f.fs.writebacks.Add(1) }

func (f *countedFile) WriteAt(p []byte, off int64) (int, error) {
	if f.fs.short {
		p = p[:len(p)-1]
	}
	return f.File.WriteAt(p, off)
}

func TestDescriptorsAreBounded(t *testing.T) {
	for _, syncfs := range []bool{false, true} {
		m := memfs.New()
		m.SetCanSyncFS(syncfs)
		c := &countingFS{FS: m}
		s, err := dir.Open("mem", dir.Options{FS: c})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			put(t, s, object(i), "x")
		}
		for i := range 1000 {
			if _, err := s.ReadAt(t.Context(), object(i), make([]byte, 1), 0); err != nil {
				t.Fatal(err)
			}
		}
		if most := c.most.Load(); most > 520 {
			t.Errorf("%d descriptors were open", most)
		}
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		put(t, s, object(1000), "x")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if open := c.open.Load(); open != 0 {
			t.Errorf("%d descriptors are open after Close", open)
		}
	}
}

func TestShortWriteIsAnError(t *testing.T) {
	s := openDir(t, "mem", dir.Options{FS: &countingFS{FS: memfs.New(), short: true}})
	if err := s.Put(t.Context(), object(1), []byte("xx")); err == nil {
		t.Error("put: no error")
	}
	f, err := s.Create(t.Context(), segment(1))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Append([]byte("xx")); err == nil {
		t.Error("append: no error")
	}
}

func TestWritebackStartsEarly(t *testing.T) {
	c := &countingFS{FS: memfs.New()}
	s := openDir(t, "mem", dir.Options{FS: c})
	f, err := s.Create(t.Context(), segment(1))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 40 {
		if err := f.Append(make([]byte, 128<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.writebacks.Load(); n != 5 {
		t.Errorf("writeback was begun %d times by 5 MiB, want 5", n)
	}
}

// unreadableFS has directories that may not be read.
type unreadableFS struct {
	dir.FS
	name string
}

func (u unreadableFS) ReadDir(name string) ([]dir.Stat, error) {
	if name == u.name {
		return nil, syscall.EACCES
	}
	return u.FS.ReadDir(name)
}

func TestListPassesOverForeignDirectories(t *testing.T) {
	m := memfs.New()
	for _, name := range []string{"lost+found", "files"} {
		if err := m.Mkdir(name); err != nil {
			t.Fatal(err)
		}
	}
	s := openDir(t, "mem", dir.Options{FS: unreadableFS{m, "lost+found"}})
	if got := list(t, s, ""); len(got) != 0 {
		t.Errorf("listed %q", got)
	}
	s = openDir(t, "mem", dir.Options{FS: unreadableFS{m, "files"}})
	if err := s.List(t.Context(), "", func(remote.Info) error { return nil }); !errors.Is(err, syscall.EACCES) {
		t.Errorf("list of an unreadable vault: %v, want EACCES", err)
	}
}

func TestOnlyRegularFilesAreObjects(t *testing.T) {
	path := t.TempDir()
	s := openDir(t, path, dir.Options{})
	put(t, s, object(1), "x")
	name := object(257) // in the same directory
	if err := syscall.Mkfifo(filepath.Join(path, name), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), name, 10); err == nil {
		t.Error("get of a FIFO: no error")
	}
	if _, err := s.Size(t.Context(), name); err == nil {
		t.Error("size of a FIFO: no error")
	}
	if got := list(t, s, ""); len(got) != 1 {
		t.Errorf("listed %q", got)
	}
}

// lockDirEnv makes the test binary a second process that tries to lock the directory it names.
const lockDirEnv = "ENVFS_TEST_LOCK_DIR"

func TestLockExcludesOtherProcesses(t *testing.T) {
	if path := os.Getenv(lockDirEnv); path != "" {
		if err := openDir(t, path, dir.Options{}).Lock(); !errors.Is(err, remote.ErrInUse) {
			t.Fatalf("lock: %v, want ErrInUse", err)
		}
		return
	}
	path := t.TempDir()
	if err := openDir(t, path, dir.Options{}).Lock(); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), lockDirEnv+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
}

func TestErrorsOfClosedStore(t *testing.T) {
	s, err := dir.Open(t.TempDir(), dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), object(1), 1); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("get: %v, want ErrClosed", err)
	}
}
