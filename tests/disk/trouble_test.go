package disk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"envfs/tests/command"
)

// soon is how long anything may take that must not hang.
const soon = 2 * time.Minute

// inTime runs fn, which must not hang.
func inTime(t *testing.T, what string, fn func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-time.After(soon):
		t.Fatalf("%s hangs", what)
		return nil
	}
}

// wantTalk looks for what a run of the command must have said.
func wantTalk(t *testing.T, r command.Result, err error, code int, words ...string) {
	t.Helper()
	if err != nil || r.Code != code {
		t.Errorf("exit code %d, %v; want %d: %s", r.Code, err, code, r.Talk)
	}
	for _, w := range words {
		if !strings.Contains(r.Talk, w) {
			t.Errorf("%q does not say %q", r.Talk, w)
		}
	}
	if n := strings.Count(strings.TrimSpace(r.Talk), "\n"); n > 1 {
		t.Errorf("more than an error and a hint:\n%s", r.Talk)
	}
}

// A store that nobody can write to is refused for writing, and can be looked at.
func TestReadOnlyStore(t *testing.T) {
	d := newDisk(t, 64)
	v := d.newVault(t)
	name := filepath.Join(v.Point, "file")
	must(t, os.WriteFile(name, []byte("content"), 0o644))
	must(t, v.Unmount())
	before := objects(t, v.Store)
	system(t, "mount", "-o", "remount,ro", d.dir)
	r, err := v.TryMount()
	wantTalk(t, r, err, 1, "envfs: mount", "read-only", "hint: --read-only")
	must(t, v.Mount("--read-only"))
	if data, err := os.ReadFile(name); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
	if err := os.WriteFile(name, nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing says %v, want EROFS", err)
	}
	must(t, v.Unmount())
	must(t, v.Check())
	system(t, "mount", "-o", "remount,rw", d.dir)
	if after := objects(t, v.Store); after != before {
		t.Errorf("the store was changed from\n%s to\n%s", before, after)
	}
	must(t, v.Mount())

	// While it is mounted for writing: what is done says so, and goes on after a new mount.
	must(t, os.WriteFile(name, []byte("newer"), 0o644))
	system(t, "sync", "-f", d.dir)
	must(t, abort(d.dir))
	err = os.WriteFile(filepath.Join(v.Point, "more"), []byte("more"), 0o644)
	if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EIO) {
		t.Errorf("writing says %v, want EROFS or EIO", err)
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != "newer" {
		t.Errorf("%q, %v", data, err)
	}
	if r, err := v.TryUnmount(); err != nil || r.Talk == "" {
		t.Errorf("unmounting tells nothing of what it could not do: %+v, %v", r, err)
	}
	must(t, v.Discard())
	d.Unmount(t)
	d.Mount(t)
	must(t, v.Mount())
	if data, err := os.ReadFile(name); err != nil || string(data) != "newer" {
		t.Errorf("%q, %v", data, err)
	}
	finish(t, v)
}

// abort makes an ext4 read-only, under files that are open for writing, too, as it does by itself after an error.
func abort(dir string) error {
	return unix.Mount("", dir, "", unix.MS_REMOUNT, "errors=remount-ro,abort")
}

// objects lists what a store holds.
func objects(t *testing.T, store string) string {
	t.Helper()
	return system(t, "find", store, "-type", "f", "-printf", "%P %s %T@\\n")
}

// A plain user who may only read the store.
func TestStoreOfAnotherUser(t *testing.T) {
	const user = 65534
	home := filepath.Join(t.TempDir(), "home")
	must(t, os.Mkdir(home, 0o755))
	for dir := home; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	v, err := command.New(binary, filepath.Join(home, "store"), home)
	must(t, err)
	must(t, v.Mount())
	must(t, os.WriteFile(filepath.Join(v.Point, "file"), []byte("content"), 0o644))
	must(t, os.Chmod(v.Point, 0o755))
	must(t, v.Unmount())
	before := objects(t, v.Store)
	for _, name := range []string{home, v.Point, filepath.Join(home, "key")} {
		must(t, os.Chown(name, user, user))
	}
	system(t, "chmod", "-R", "go+rX", v.Store)
	script := `
		set -e
		mknod "$1/fuse" c 10 229
		chmod 666 "$1/fuse"
		mount --bind "$1/fuse" /dev/fuse
		exec setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$1" XDG_STATE_HOME="$1/other" XDG_RUNTIME_DIR="$1" sh -c '
			cd "$1"
			"$0" mount store mnt --keyfile key 2>talk
			test $? -eq 1 || { echo "mounting a store that cannot be written: $?"; cat talk; exit 1; }
			cat talk >&2
			set -e
			"$0" mount --read-only store mnt --keyfile key
			test "$(cat mnt/file)" = content
			"$0" unmount mnt
			test "$("$0" cat store /file --keyfile key)" = content
			"$0" check store --keyfile key
		' "$0" "$1"`
	cmd := exec.Command("unshare", "-m", "/bin/sh", "-c", script, binary, home)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("hint: --read-only")) {
		t.Errorf("%v\n%s", err, out)
	}
	if after := objects(t, v.Store); after != before {
		t.Errorf("the store was changed from\n%s to\n%s", before, after)
	}
}

// The store is removed while it is mounted: errors, no hanging, no panic, and it can be unmounted.
func TestStoreRemoved(t *testing.T) {
	d := newDisk(t, 64)
	v := d.newVault(t)
	for i := range 50 {
		must(t, os.WriteFile(filepath.Join(v.Point, fmt.Sprintf("file%d", i)), bytes.Repeat([]byte{byte(i)}, 100_000), 0o644))
	}
	must(t, v.Remount())
	must(t, os.WriteFile(filepath.Join(v.Point, "fresh"), []byte("x"), 0o644))
	must(t, os.RemoveAll(v.Store))
	failed := 0
	for i := range 50 {
		name := filepath.Join(v.Point, fmt.Sprintf("file%d", i))
		err := inTime(t, "reading", func() error {
			data, err := os.ReadFile(name)
			if err == nil && !bytes.Equal(data, bytes.Repeat([]byte{byte(i)}, 100_000)) {
				t.Errorf("%s: wrong bytes", name)
			}
			return err
		})
		if err != nil {
			failed++
			if !errors.Is(err, unix.EIO) {
				t.Errorf("reading says %v, want EIO", err)
			}
		}
	}
	if failed == 0 {
		t.Error("nothing fails without a store")
	}
	err := inTime(t, "writing", func() error {
		f, err := os.Create(filepath.Join(v.Point, "more"))
		if err != nil {
			return err
		}
		_, err = f.Write(make([]byte, 1<<20))
		return errors.Join(err, f.Sync(), f.Close())
	})
	if !errors.Is(err, unix.EIO) {
		t.Errorf("writing and syncing say %v, want EIO", err)
	}
	st, err := v.Status()
	if err != nil || st.Errors == 0 {
		t.Errorf("status %+v, %v; want errors", st, err)
	}
	var r command.Result
	err = inTime(t, "unmounting", func() error { r, err = v.TryUnmount(); return err })
	wantTalk(t, r, err, 1, "envfs: ")
	if strings.Contains(mounts(t), v.Point) {
		t.Error("it is still mounted")
	}
	if log, err := v.Log(); err != nil || strings.Contains(log, "panic") {
		t.Errorf("the log tells of a panic (%v)", err)
	}
}

func mounts(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	return string(text)
}

// wantStopped looks whether writing has stopped and status and log say so, and that what is there can still be read.
func wantStopped(t *testing.T, v *command.Vault, fs files) {
	t.Helper()
	err := inTime(t, "writing", func() error { return os.WriteFile(filepath.Join(v.Point, "late"), []byte("x"), 0o644) })
	if !errors.Is(err, unix.EIO) {
		t.Errorf("writing says %v, want EIO", err)
	}
	st, err := v.Status()
	if err != nil || st.Stopped == "" {
		t.Errorf("status %+v, %v; want to hear that writing has stopped", st, err)
	}
	if r, err := v.Run("status"); err != nil || !strings.Contains(r.Out, "WRITING HAS STOPPED") {
		t.Errorf("status: %+v, %v", r, err)
	}
	if log, err := v.Log(); err != nil || !strings.Contains(log, "writing has stopped") {
		t.Errorf("the log does not say that writing has stopped (%v)", err)
	}
	if fs != nil {
		fs.compare(t, v)
	}
}

// One sync of the store fails, once: nothing is written any more, as nobody knows what was lost. A new mount goes on with
// all that had been synced.
func TestFailedSync(t *testing.T) {
	for _, call := range []string{"fdatasync", "fsync,syncfs"} {
		t.Run(call, func(t *testing.T) {
			d := newDisk(t, 64)
			v := d.newVault(t)
			fs := make(files)
			for i := range 20 {
				name := fmt.Sprintf("file%d", i)
				fs[name] = bytes.Repeat([]byte{byte(i)}, 50_000)
				must(t, writeSynced(filepath.Join(v.Point, name), fs[name]))
			}
			tracer := inject(t, v.PID(), call, "EIO")
			err := inTime(t, "fsync", func() error { return writeSynced(filepath.Join(v.Point, "failing"), make([]byte, 1<<20)) })
			if !errors.Is(err, unix.EIO) {
				t.Errorf("fsync says %v, want EIO", err)
			}
			fs["failing"] = nil
			tracer()
			wantStopped(t, v, fs)
			r, err := v.TryUnmount()
			if err != nil || r.Code != 1 || !strings.Contains(r.Talk, "envfs: ") {
				t.Errorf("unmounting: %+v, %v; want code 1", r, err)
			}
			must(t, v.Discard())
			d.Unmount(t)
			d.Mount(t)
			must(t, v.Mount())
			fs["late"] = nil
			fs.compare(t, v)
			must(t, writeSynced(filepath.Join(v.Point, "again"), []byte("x")))
			finish(t, v)
		})
	}
}

// inject makes system calls of a process fail until the returned function is called.
func inject(t *testing.T, pid int, calls, errno string) (stop func()) {
	t.Helper()
	cmd := exec.Command("strace", "-f", "-p", strconv.Itoa(pid), "-e", "trace="+calls, "-e", "inject="+calls+":error="+errno)
	talk, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(talk)
	for !strings.Contains(lines.Text(), "attached") { // it says so when it has all threads
		if !lines.Scan() {
			t.Fatalf("strace ends: %v", lines.Err())
		}
	}
	var rest sync.WaitGroup
	rest.Go(func() { _, _ = io.Copy(io.Discard, talk) }) // or else it would wait for a reader
	return func() {
		_ = cmd.Process.Signal(unix.SIGINT) // it detaches
		rest.Wait()
		_ = cmd.Wait() // says that it was interrupted
	}
}

func writeSynced(name string, data []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
