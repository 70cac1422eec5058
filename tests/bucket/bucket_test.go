package bucket

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
)

// What one machine has written and published another one reads; the bucket holds ciphertext only.
func TestTwoMachines(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	dir := filepath.Join(r.Point, "secret names")
	files := fill(t, dir, 60)
	system(t, "git", "init", "-q", filepath.Join(r.Point, "repo"))
	r.sync()
	other := r.elsewhere()
	must(t, other.Mount("--read-only"))
	compare(t, filepath.Join(other.Point, "secret names"), files)
	must(t, other.Unmount())
	if res, err := other.TryMount(); err != nil || res.Code != 11 {
		t.Errorf("mounted for writing beside another machine: %d, %v: %s", res.Code, err, res.Talk)
	}
	must(t, r.Unmount())
	must(t, other.Mount())
	compare(t, filepath.Join(other.Point, "secret names"), files)
	system(t, "git", "-C", filepath.Join(other.Point, "repo"), "fsck", "--strict")
	must(t, other.Unmount())
	must(t, other.Check())
	objects := 0
	r.each(func(name string, data []byte) {
		objects++
		if bytes.Contains(data, []byte("plain text")) || bytes.Contains(data, []byte("secret names")) {
			t.Errorf("%s holds plaintext", name)
		}
	})
	if objects == 0 {
		t.Error("the bucket is empty")
	}
}

// A vault that is copied object by object opens where it has come: from a bucket in a directory, and back.
func TestCopiedByObject(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	files := fill(t, filepath.Join(r.Point, "d"), 40)
	r.sync() // so that there is a journal
	local := filepath.Join(t.TempDir(), "vault")
	r.each(func(name string, data []byte) {
		path := filepath.Join(local, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, data, 0o600))
	})
	must(t, r.Unmount())

	v := r.elsewhere()
	v.Store = local
	must(t, v.Mount("--takeover"))
	compare(t, filepath.Join(v.Point, "d"), files)
	more := fill(t, filepath.Join(v.Point, "more"), 10)
	must(t, v.Unmount())
	must(t, v.Check())

	c, err := r.server.Client()
	must(t, err)
	must(t, filepath.WalkDir(local, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, local+"/")
		_, err = c.FPutObject(context.Background(), r.bucket, "back/"+name, path, minio.PutObjectOptions{})
		return err
	}))
	back := r.elsewhere()
	back.Store = r.server.Location(r.bucket, "back")
	must(t, back.Mount())
	compare(t, filepath.Join(back.Point, "d"), files)
	compare(t, filepath.Join(back.Point, "more"), more)
	must(t, back.Unmount())
	must(t, back.Check())
}

// The bucket goes away while work goes on, and comes back: nothing is lost, and all is published.
func TestBucketAway(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	one := fill(t, filepath.Join(r.Point, "one"), 30)
	r.server.Kill()
	two := fill(t, filepath.Join(r.Point, "two"), 30)
	compare(t, filepath.Join(r.Point, "two"), two)
	r.restart()
	r.sync()
	compare(t, filepath.Join(r.Point, "one"), one)
	other := r.elsewhere()
	must(t, other.Mount("--read-only"))
	compare(t, filepath.Join(other.Point, "one"), one)
	compare(t, filepath.Join(other.Point, "two"), two)
	must(t, other.Unmount())
	must(t, r.Unmount())
	must(t, r.Check())
}

// The daemon is killed, the server too, again and again in mid-work: what was closed is there when both are back.
func TestKilled(t *testing.T) {
	r := newRig(t)
	all := make(map[string]map[string][]byte)
	for round, kill := range []string{"daemon", "server", "both", "daemon"} {
		must(t, r.Mount())
		for name, files := range all {
			compare(t, filepath.Join(r.Point, name), files)
		}
		name := "round" + string(rune('0'+round))
		if round%2 == 1 {
			r.sync()
		}
		all[name] = fill(t, filepath.Join(r.Point, name), 25)
		if kill != "daemon" {
			r.server.Kill()
		}
		must(t, r.Kill())
		must(t, r.Discard()) // the dead mount
		if kill != "daemon" {
			r.restart()
		}
	}
	must(t, r.Mount())
	r.endsWith(all)
}

// endsWith checks that the directories of a mounted vault hold what they are to, unmounts it, and checks the same of what
// another machine sees.
func (r *rig) endsWith(all map[string]map[string][]byte) {
	t := r.t
	t.Helper()
	for name, files := range all {
		compare(t, filepath.Join(r.Point, name), files)
	}
	must(t, r.Unmount())
	must(t, r.Check())
	other := r.elsewhere()
	must(t, other.Mount("--read-only"))
	for name, files := range all {
		compare(t, filepath.Join(other.Point, name), files)
	}
	must(t, other.Unmount())
}

// loseCache deletes what lies in the cache, or with it the directories above it, as a user does who needs the space.
func (r *rig) loseCache(above bool) {
	r.t.Helper()
	top := filepath.Join(r.Home, "cache")
	if !above {
		inside, err := filepath.Glob(filepath.Join(top, "envfs", "*"))
		must(r.t, err)
		for _, dir := range inside {
			_ = os.RemoveAll(dir) // what comes while it is at work stays
		}
		return
	}
	_ = os.RemoveAll(top)
}

// lose deletes a directory into which a daemon may be putting files. Those go by its path, so they are not in the way.
func lose(t *testing.T, dir string) {
	t.Helper()
	gone := dir + " that is gone"
	must(t, os.Rename(dir, gone))
	must(t, os.RemoveAll(gone))
}

// The cache may be deleted while the vault is mounted, at rest and while it is read.
func TestCacheDeleted(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	files := fill(t, filepath.Join(r.Point, "d"), 30)
	must(t, r.Unmount())
	for _, above := range []bool{false, true} {
		must(t, r.Mount())
		compare(t, filepath.Join(r.Point, "d"), files)
		r.loseCache(above)
		drop(t)
		compare(t, filepath.Join(r.Point, "d"), files)
		var over atomic.Bool
		var losing sync.WaitGroup
		losing.Go(func() {
			for !over.Load() {
				r.loseCache(above)
			}
		})
		for range 5 {
			drop(t)
			compare(t, filepath.Join(r.Point, "d"), files)
		}
		over.Store(true)
		losing.Wait()
		if st, err := r.Status(); err != nil || st.Errors > 0 {
			t.Errorf("%v, %d errors, the last: %s", err, st.Errors, st.LastError)
		}
		must(t, r.Unmount())
	}
}

// What decays in the cache is fetched anew, and nobody sees it.
func TestCacheDamaged(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	files := fill(t, filepath.Join(r.Point, "d"), 30)
	big := bytes.Repeat([]byte("more than fits into one extent\n"), 300_000)
	must(t, os.WriteFile(filepath.Join(r.Point, "d", "big"), big, 0o600))
	files["big"] = big
	must(t, r.Unmount())
	must(t, r.Mount())
	compare(t, filepath.Join(r.Point, "d"), files)
	must(t, r.Unmount())
	spoiled := 0
	must(t, filepath.WalkDir(filepath.Join(r.Home, "cache", "envfs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for at := 100; at < len(data); at += 64 << 10 {
			data[at] ^= 1
		}
		spoiled++
		return errors.Join(err, os.WriteFile(path, data, 0o600))
	}))
	if spoiled < 3 {
		t.Errorf("only %d files in the cache", spoiled)
	}
	must(t, r.Mount())
	compare(t, filepath.Join(r.Point, "d"), files)
	if st, err := r.Status(); err != nil || st.Errors > 0 {
		t.Errorf("%v, %d errors, the last: %s", err, st.Errors, st.LastError)
	}
	must(t, r.Unmount())
	must(t, r.Check())
}

// Who was overtaken while it was away adds nothing to the bucket that the other did not have; its own work stays on its
// machine.
func TestTakeover(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	both := fill(t, filepath.Join(r.Point, "both"), 10)
	r.sync()
	r.server.Kill() // so that nothing more is published
	fill(t, filepath.Join(r.Point, "late"), 10)
	must(t, r.Kill())
	must(t, r.Discard()) // the dead mount
	r.restart()

	other := r.elsewhere()
	if res, err := other.TryMount(); err != nil || res.Code != 11 || !strings.Contains(res.Talk, "--takeover") {
		t.Errorf("mount beside an open term: %d, %v: %s", res.Code, err, res.Talk)
	}
	must(t, other.Mount("--takeover"))
	compare(t, filepath.Join(other.Point, "both"), both)
	theirs := fill(t, filepath.Join(other.Point, "theirs"), 10)
	must(t, other.Unmount())

	before := r.unpublished()
	res, err := r.TryMount()
	must(t, err)
	t.Logf("mount after being overtaken: %d: %s", res.Code, res.Talk)
	if res.Code == 0 {
		compare(t, filepath.Join(r.Point, "theirs"), theirs)
		must(t, r.Unmount())
	}
	for name, data := range before {
		if !bytes.Equal(r.unpublished()[name], data) {
			t.Errorf("%s is gone", name)
		}
	}
	must(t, other.Mount())
	compare(t, filepath.Join(other.Point, "theirs"), theirs)
	must(t, other.Unmount())
	must(t, other.Check())
}

// unpublished returns the objects that are on the machine only.
func (r *rig) unpublished() map[string][]byte {
	r.t.Helper()
	objects := make(map[string][]byte)
	must(r.t, filepath.WalkDir(filepath.Join(r.Home, "state", "envfs", "stores"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if len(data) > 0 {
			objects[filepath.Base(path)] = data
		}
		return err
	}))
	return objects
}
