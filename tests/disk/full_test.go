package disk

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"envfs/tests/command"
)

// random returns n bytes.
func random(rng *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

// fill writes files until one fails, which must be for want of space. What was acknowledged is added to fs.
func (fs files) fill(t *testing.T, v *command.Vault, prefix string, rng *rand.Rand, most int) {
	t.Helper()
	for i := range 100_000 {
		name, data := fmt.Sprintf("%s%d", prefix, i), random(rng, rng.IntN(most))
		if err := os.WriteFile(filepath.Join(v.Point, name), data, 0o644); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("the disk is full, but writing says %v", err)
			}
			fs[name] = nil // what of it is there, and whether it is there at all, is not said
			return
		}
		fs[name] = data
	}
	t.Fatal("the disk never becomes full")
}

// removeHalf removes every second file, which must work however full the disk is.
func (fs files) removeHalf(t *testing.T, v *command.Vault) {
	t.Helper()
	for i, name := range slices.Sorted(maps.Keys(fs)) {
		if i%2 == 0 {
			if err := os.Remove(filepath.Join(v.Point, name)); err != nil && !(fs[name] == nil && errors.Is(err, unix.ENOENT)) {
				t.Fatalf("the disk is full and %v", err)
			}
			delete(fs, name)
		}
	}
}

// The vault itself fills the disk: programs are told ENOSPC, nothing is lost, removing works, and then there is space again.
func TestDiskFull(t *testing.T) {
	for _, c := range []struct {
		name  string
		most  int
		flags []string
	}{{"large", 2 << 20, nil}, {"small", 9000, nil}, {"writeback", 300_000, []string{"--writeback"}}} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(c.most)))
			d := newDisk(t, 64)
			v := d.newVault(t, c.flags...)
			fs := make(files)
			for round := range 3 {
				fs.fill(t, v, fmt.Sprintf("round%d-", round), rng, c.most)
				t.Logf("round %d: full with %d files", round, len(fs))
				fs.compare(t, v)
				if st, err := v.Status(); err != nil || st.Stopped != "" {
					t.Fatalf("status %+v, %v", st, err)
				}
				if round == 1 { // mounting works on a full disk, too
					must(t, v.Remount(c.flags...))
					fs.compare(t, v)
				}
				fs.removeHalf(t, v)
				fs.compare(t, v)
			}
			must(t, v.Remount(c.flags...))
			fs.compare(t, v)
			finish(t, v)
		})
	}
}

// A file that is overwritten on a full disk has, block by block, its old or its new content.
func TestOverwriteOnFullDisk(t *testing.T) {
	const block = 64 << 10
	d := newDisk(t, 64)
	v := d.newVault(t)
	name := filepath.Join(v.Point, "file")
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	for range 200 {
		_, err = f.Write(bytes.Repeat([]byte{1}, block))
		must(t, err)
	}
	must(t, f.Sync())
	fs := files{"file": nil}
	fs.fill(t, v, "filler", rand.New(rand.NewPCG(2, 2)), 1<<20)
	blocks := bytes.Repeat([]byte{1}, 200)
	for i := range 200 {
		if _, err := f.WriteAt(bytes.Repeat([]byte{2}, block), int64(i)*block); err == nil {
			blocks[i] = 2
		} else if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	for _, err := range []error{f.Sync(), f.Close()} {
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		} else if err != nil {
			t.Log(err)
			clear(blocks) // any of them may have failed
		}
	}
	must(t, v.Remount())
	data, err := os.ReadFile(name)
	must(t, err)
	if len(data) != 200*block {
		t.Fatalf("the file has %d bytes", len(data))
	}
	for i, want := range blocks {
		got := data[i*block : (i+1)*block]
		if n := bytes.Count(got, []byte{1}) + bytes.Count(got, []byte{2}); n != block {
			t.Errorf("block %d holds %d bytes that were never written", i, block-n)
		}
		if want != 0 && bytes.Count(got, []byte{want}) != block {
			t.Errorf("block %d is not what was acknowledged", i)
		}
	}
	finish(t, v)
}

// Another program fills the disk to the last block: envfs says ENOSPC, still removes, and goes on once there is space.
func TestOthersFillTheDisk(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	d := newDisk(t, 100)
	v := d.newVault(t)
	fs := make(files)
	for i := range 300 {
		name := fmt.Sprintf("file%d", i)
		fs[name] = random(rng, rng.IntN(50_000))
		must(t, os.WriteFile(filepath.Join(v.Point, name), fs[name], 0o644))
	}
	filler := filepath.Join(d.dir, "filler")
	fillUp := func() {
		t.Helper()
		f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		must(t, err)
		defer f.Close()
		for size := 1 << 20; size >= 512; {
			if _, err := f.Write(make([]byte, size)); err != nil {
				if !errors.Is(err, unix.ENOSPC) {
					t.Fatal(err)
				}
				size /= 2
			}
		}
		must(t, f.Sync())
	}
	for round := range 2 {
		fillUp()
		// What is held back for this moment may still take a little.
		err := error(nil)
		for i := 0; i < 20 && err == nil; i++ {
			err = os.WriteFile(filepath.Join(v.Point, "more"), make([]byte, 1<<20), 0o644)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the disk is full, but writing says %v", err)
		}
		fs["more"] = nil
		fs.compare(t, v)
		fs.removeHalf(t, v)
		fs.compare(t, v)
		if st, err := v.Status(); err != nil || st.Stopped != "" {
			t.Fatalf("status %+v, %v", st, err)
		}
		must(t, os.Remove(filler))
		for i := range 100 {
			name := fmt.Sprintf("round%d-%d", round, i)
			fs[name] = random(rng, rng.IntN(50_000))
			must(t, os.WriteFile(filepath.Join(v.Point, name), fs[name], 0o644))
		}
		fs.compare(t, v)
	}
	// Unmounting and mounting work on a full disk.
	fillUp()
	must(t, v.Unmount())
	must(t, v.Mount())
	fs.compare(t, v)
	must(t, os.Remove(filler))
	finish(t, v)
}
