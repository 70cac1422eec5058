package bucket

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"envfs/tests/seed"
)

// small mounts a file system in memory of so many MiB.
func small(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("envfs-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%dm", mib)))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// hog takes what a disk has left, and returns what gives it back.
func hog(t *testing.T, dir string) (release func()) {
	t.Helper()
	name := filepath.Join(dir, "hog")
	f, err := os.Create(name)
	must(t, err)
	for step := int64(1 << 20); step >= 4096; step /= 2 {
		for err = nil; err == nil; {
			var at int64
			if at, err = f.Seek(0, 2); err == nil {
				_, err = f.WriteAt(make([]byte, step), at)
			}
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	must(t, f.Close())
	return func() { must(t, os.Remove(name)) }
}

// diskless is a program that writes on a mount whose disk may be full.
type diskless struct {
	dir   string
	rng   *rand.Rand
	files map[string][]byte
}

// write writes files until it is refused, at most for want of space, or there are so many more.
func (d *diskless) write(t *testing.T, most int) (full bool) {
	t.Helper()
	for range most {
		name := fmt.Sprintf("file%d", len(d.files))
		data := bytes.Repeat([]byte(fmt.Sprintf("%s %d,", name, d.rng.Uint64())), 1+d.rng.IntN(1<<d.rng.IntN(16)))
		path := filepath.Join(d.dir, name)
		if err := os.WriteFile(path+".new", data, 0o644); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("%s: %v", name, err)
			}
			if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("removing where there is no space: %v", err)
			}
			return true
		}
		if err := os.Rename(path+".new", path); errors.Is(err, syscall.ENOSPC) {
			return true
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d.files[name] = data
	}
	return false
}

// since returns the files but for the first n: those before lie in the bucket perhaps, and nowhere else once the kernel
// has dropped its pages, which any program may have it do.
func (d *diskless) since(n int) map[string][]byte {
	files := maps.Clone(d.files)
	for i := range n {
		delete(files, fmt.Sprintf("file%d", i))
	}
	return files
}

func drop(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
}

// The disk of the state fills up, by what is written while the bucket is away, and by what others put there: writes are
// refused after the wait, reads go on, nothing that was acknowledged is lost, and work goes on once there is room.
func TestStateDiskFull(t *testing.T) {
	seed := seed.Of(t, "bucket.seed", *stormSeed)
	r := newRig(t)
	disk := small(t, 48)
	flags := []string{"--state-dir", filepath.Join(disk, "state"), "--wait", "1s"}
	must(t, r.Mount(flags...))
	d := &diskless{r.Point, rand.New(rand.NewPCG(seed, 0)), make(map[string][]byte)}
	d.write(t, 20)
	r.sync()
	for round := range 3 {
		before := len(d.files)
		switch round {
		case 0: // away
			r.server.Kill()
			if !d.write(t, 100_000) {
				t.Fatal("48 MiB are never full")
			}
			compare(t, d.dir, d.since(before))
			r.restart()
		case 1: // another program takes the disk
			release := hog(t, disk)
			if !d.write(t, 100_000) {
				t.Fatal("a full disk takes everything")
			}
			drop(t)
			compare(t, d.dir, d.files)
			release()
		case 2: // both, and the daemon is killed
			r.server.Kill()
			d.write(t, 100)
			release := hog(t, disk)
			if !d.write(t, 100_000) {
				t.Fatal("a full disk takes everything")
			}
			compare(t, d.dir, d.since(before))
			must(t, r.Kill())
			must(t, r.Discard())
			r.restart()
			if res, err := r.TryMount(flags...); err != nil || res.Code == 0 {
				must(t, err)
				must(t, r.Unmount()) // it was enough for that
			} else {
				t.Logf("mount on a full disk: %d: %s", res.Code, res.Talk)
			}
			release()
			must(t, r.Mount(flags...))
		}
		t.Logf("round %d: full after %d files", round, len(d.files)-before)
		deadline := time.Now().Add(time.Minute)
		for n := len(d.files); len(d.files) < n+20; {
			if d.write(t, 20) && time.Now().After(deadline) {
				t.Fatal("there is room, but nothing can be written for a minute")
			}
		}
		r.sync()
		compare(t, d.dir, d.files)
		if st, err := r.Status(); err != nil || st.Stopped != "" {
			t.Fatalf("round %d: %v, stopped by %q", round, err, st.Stopped)
		}
	}
	must(t, r.Unmount())
	must(t, r.Check())
	other := r.elsewhere()
	must(t, other.Mount("--read-only"))
	compare(t, other.Point, d.files)
	must(t, other.Unmount())
}

// A cache on a disk that is full, from the first or in mid-work, costs time only.
func TestCacheDiskFull(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	files := fill(t, filepath.Join(r.Point, "d"), 40)
	must(t, r.Unmount())
	disk := small(t, 8)
	flags := []string{"--cache-dir", filepath.Join(disk, "cache")}
	must(t, r.Mount(flags...))
	compare(t, filepath.Join(r.Point, "d"), files) // which fills it
	release := hog(t, disk)
	drop(t)
	compare(t, filepath.Join(r.Point, "d"), files)
	more := fill(t, filepath.Join(r.Point, "more"), 10)
	r.sync()
	drop(t)
	compare(t, filepath.Join(r.Point, "more"), more)
	must(t, r.Remount(flags...))
	compare(t, filepath.Join(r.Point, "d"), files)
	compare(t, filepath.Join(r.Point, "more"), more)
	if st, err := r.Status(); err != nil || st.Errors > 0 {
		t.Errorf("%v, %d errors, the last: %s", err, st.Errors, st.LastError)
	}
	lose(t, filepath.Join(disk, "cache"))
	must(t, r.Unmount())
	hog(t, disk) // the whole of it
	must(t, r.Mount(flags...))
	compare(t, filepath.Join(r.Point, "d"), files)
	must(t, r.Unmount())
	release()
}

// What is kept of what was published counts in --state-size, and folds make it less, so that nobody waits for ever,
// however many small files are written.
func TestStateBounded(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount("--state-size", "32"))
	data := make([]byte, 12<<10)
	files := make(map[string][]byte)
	for i := range 6000 {
		name := fmt.Sprintf("file%d", i%500)
		files[name] = append([]byte(fmt.Sprint(i)), data...)
		must(t, os.WriteFile(filepath.Join(r.Point, name), files[name], 0o644))
	}
	r.sync()
	until(t, r.Vault, "what is kept is little", func(st *shown) bool { return st.Bucket.State <= 32<<20/8 })
	compare(t, r.Point, files)
	must(t, r.Unmount())
	must(t, r.Check())
}
