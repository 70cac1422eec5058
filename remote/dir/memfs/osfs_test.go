package memfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

func newRand(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestSameAsTheRealFileSystem does the same random things here and there: errors and trees must be equal.
func TestSameAsTheRealFileSystem(t *testing.T) {
	rng := newRand(t)
	for range 20 {
		real, err := dir.OpenOS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		mem := memfs.New()
		for range 150 {
			op := randomOp(rng)
			want, got := op.do(real), op.do(mem)
			if !sameErrno(got, want) {
				t.Fatalf("%v: %v, the real one: %v", op.name, got, want)
			}
		}
		want, got := tree(t, real, ""), tree(t, mem, "")
		if !slices.Equal(got, want) {
			t.Fatalf("tree:\n%s\nthe real one:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		after := mem.Log().State(nil, mem.Log().Len(), memfs.ModePrefix)
		if got := tree(t, after, ""); !slices.Equal(got, want) {
			t.Fatalf("tree after kill -9:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if got := tree(t, mem.Copy(), ""); !slices.Equal(got, want) {
			t.Fatalf("tree of the copy:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if err := real.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func sameErrno(a, b error) bool {
	if a == nil || b == nil {
		return a == b
	}
	var x, y syscall.Errno
	if !errors.As(a, &x) || !errors.As(b, &y) {
		return errors.Is(a, io.EOF) && errors.Is(b, io.EOF)
	}
	return x == y
}

type randomOperation struct {
	name string
	do   func(dir.FS) error
}

func randomOp(rng *rand.Rand) randomOperation {
	name := func() string {
		s := string(rune('a' + rng.IntN(4)))
		for rng.IntN(3) == 0 {
			s += "/" + string(rune('a'+rng.IntN(4)))
		}
		return s
	}
	a, b := name(), name()
	off, data := rng.Int64N(2000), bytes.Repeat([]byte{byte(rng.IntN(256))}, 1+rng.IntN(1500))
	sync := func(f dir.File) error {
		return errors.Join(f.Sync(), f.Datasync(), f.Close())
	}
	switch rng.IntN(9) {
	case 0, 1, 2:
		return randomOperation{fmt.Sprintf("create %s, write [%d:+%d]", a, off, len(data)), func(fs dir.FS) error {
			f, err := fs.Create(a)
			if err != nil {
				return err
			}
			if _, err := f.WriteAt(data, off); err != nil {
				return err
			}
			if _, err := f.WriteAt(data[:len(data)/2], off/2); err != nil {
				return err
			}
			if off%3 == 0 {
				if err := f.Truncate(off); err != nil {
					return err
				}
			}
			return sync(f)
		}}
	case 3:
		return randomOperation{"mkdir " + a, func(fs dir.FS) error { return fs.Mkdir(a) }}
	case 4:
		return randomOperation{"rename " + a + " " + b, func(fs dir.FS) error { return fs.Rename(a, b) }}
	case 5:
		return randomOperation{"remove " + a, func(fs dir.FS) error { return fs.Remove(a) }}
	case 6:
		return randomOperation{"syncdir " + a, func(fs dir.FS) error { return fs.SyncDir(a) }}
	case 7:
		return randomOperation{"link " + a + " " + b, func(fs dir.FS) error { return fs.Link(a, b) }}
	default:
		return randomOperation{"stat, list " + a, func(fs dir.FS) error {
			if _, err := fs.Stat(a); err != nil {
				return err
			}
			_, err := fs.ReadDir(a)
			return err
		}}
	}
}

// tree describes all files in order.
func tree(t testing.TB, fs dir.FS, path string) (lines []string) {
	t.Helper()
	entries, err := fs.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := strings.TrimPrefix(path+"/"+e.Name, "/")
		if e.Mode.IsDir() {
			lines = append(lines, name+"/")
			lines = append(lines, tree(t, fs, name)...)
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %d %x", name, e.Size, content(t, fs, name)))
	}
	slices.Sort(lines)
	return lines
}

func content(t testing.TB, fs dir.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, st.Size)
	if n, err := f.ReadAt(data, 0); n < len(data) {
		t.Fatal(err)
	}
	return data
}
