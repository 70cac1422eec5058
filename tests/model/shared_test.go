package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"envfs/tests/mountpoint"
)

// Many workers in one directory and in two files: whatever the order in which their operations take effect, what is
// there in the end is known.
func TestShared(t *testing.T) {
	const workers, rounds, record = 6, 300, 24
	seed := newSeed(t)
	v := mountpoint.NewVault(t)
	m := v.Mount(t, mountpoint.Options{})
	for _, dir := range []string{"one", "two"} {
		if err := os.Mkdir(filepath.Join(m.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var winners [rounds]int // who made the file that all try to make
	var mu sync.Mutex
	left := make(map[string]bool)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			appended, err := os.OpenFile(filepath.Join(m.Dir, "appended"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			defer appended.Close()
			striped, err := os.OpenFile(filepath.Join(m.Dir, "striped"), os.O_CREATE|os.O_RDWR, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			defer striped.Close()
			for i := range rounds {
				name := fmt.Sprintf("w%d-%d", w, i)
				from, to := filepath.Join(m.Dir, "one", name), filepath.Join(m.Dir, "two", name)
				err := os.WriteFile(from, []byte(name), 0o644)
				keep := ""
				switch rnd.IntN(4) {
				case 0:
					err = errors.Join(err, os.Rename(from, to))
					keep = to
				case 1:
					err = errors.Join(err, os.Link(from, to), os.Remove(from))
					keep = to
				case 2:
					err = errors.Join(err, os.Remove(from))
				default:
					keep = from
				}
				rec := make([]byte, record)
				binary.BigEndian.PutUint64(rec, uint64(w))
				binary.BigEndian.PutUint64(rec[8:], uint64(i))
				_, errA := appended.Write(rec)
				_, errB := striped.WriteAt(pattern(uint64(w*rounds+i), 700), int64(i*workers+w)*700)
				fd, errC := unix.Open(filepath.Join(m.Dir, fmt.Sprint("made", i)), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
				if errC == nil {
					unix.Close(fd)
				}
				mu.Lock()
				if keep != "" {
					left[keep] = true
				}
				if errC == nil {
					winners[i]++
				} else if errC != unix.EEXIST {
					t.Errorf("worker %d: make a file that others make too: %v", w, errC)
				}
				mu.Unlock()
				if err := errors.Join(err, errA, errB); err != nil {
					t.Errorf("worker %d, round %d: %v", w, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for range 2 {
		checkShared(t, m.Dir, left, workers, rounds, record)
		m.Unmount(t)
		m = v.Mount(t, mountpoint.Options{})
		base := filepath.Dir(filepath.Dir(slices.Collect(maps.Keys(left))[0]))
		moved := make(map[string]bool)
		for name := range left {
			rel, err := filepath.Rel(base, name)
			if err != nil {
				t.Fatal(err)
			}
			moved[filepath.Join(m.Dir, rel)] = true
		}
		left = moved
	}
	for i, n := range winners {
		if n != 1 {
			t.Errorf("file %d was made by %d workers", i, n)
		}
	}
	m.Unmount(t)
}

func checkShared(t *testing.T, root string, left map[string]bool, workers, rounds, record int) {
	t.Helper()
	found := 0
	for _, dir := range []string{"one", "two"} {
		names, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		found += len(names)
	}
	if found != len(left) {
		t.Errorf("%d files are left, want %d", found, len(left))
	}
	for name := range left {
		if data, err := os.ReadFile(name); err != nil || string(data) != filepath.Base(name) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	data, err := os.ReadFile(filepath.Join(root, "appended"))
	if err != nil || len(data) != workers*rounds*record {
		t.Fatalf("appended: %d bytes, want %d (%v)", len(data), workers*rounds*record, err)
	}
	next := make([]uint64, workers)
	for ; len(data) > 0; data = data[record:] {
		w, i := binary.BigEndian.Uint64(data), binary.BigEndian.Uint64(data[8:])
		if w >= uint64(workers) || next[w] != i {
			t.Fatalf("record of worker %d, round %d out of order", w, i)
		}
		next[w]++
	}
	data, err = os.ReadFile(filepath.Join(root, "striped"))
	if err != nil || len(data) != workers*rounds*700 {
		t.Fatalf("striped: %d bytes, want %d (%v)", len(data), workers*rounds*700, err)
	}
	for k := range workers * rounds {
		w, i := k%workers, k/workers
		if !bytes.Equal(data[k*700:(k+1)*700], pattern(uint64(w*rounds+i), 700)) {
			t.Fatalf("the stripe of worker %d, round %d is wrong", w, i)
		}
	}
}

// A name that stays is listed exactly once, whatever happens to its neighbours meanwhile.
func TestListingDuringChanges(t *testing.T) {
	const stable = 1500
	seed := newSeed(t)
	m := mountpoint.NewVault(t).Mount(t, mountpoint.Options{})
	dir := filepath.Join(m.Dir, "dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range stable {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("stays", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	var churn sync.WaitGroup
	for w := range 2 {
		churn.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				name := filepath.Join(dir, fmt.Sprintf("goes%d-%d", w, rnd.IntN(400)))
				switch rnd.IntN(3) {
				case 0:
					_ = os.Remove(name) // may not be there
				case 1:
					_ = os.Rename(name, filepath.Join(dir, fmt.Sprintf("goes%d-%d", w, rnd.IntN(400))))
				default:
					if err := os.WriteFile(name, nil, 0o644); err != nil {
						t.Error(err)
						return
					}
				}
				if i%500 == 499 {
					if err := m.FS.Fold(t.Context()); err != nil {
						t.Errorf("fold: %v", err)
						return
					}
				}
			}
		})
	}
	for pass := range 30 {
		names, err := list(dir, []int{300, 1024, 8192, 64 << 10}[pass%4])
		if err != nil {
			t.Error(err)
			break
		}
		seen := make(map[string]int)
		for _, name := range names {
			seen[name]++
		}
		for i := range stable {
			if n := seen[fmt.Sprint("stays", i)]; n != 1 {
				t.Errorf("pass %d: stays%d is listed %d times", pass, i, n)
				break
			}
		}
	}
	close(done)
	churn.Wait()
	m.Unmount(t)
}
