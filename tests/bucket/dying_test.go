package bucket

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pester sends a thread signals that a program handles, as Go's scheduler does, until stop is called.
func pester(tid int) (stop func()) {
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			time.Sleep(time.Millisecond) // the pace of a scheduler
		}
	}()
	return func() {
		over.Store(true)
		<-done
	}
}

// waiter is a program that waits for the mount.
type waiter struct {
	*exec.Cmd
	ended chan struct{}
}

// A program that waits for a bucket that is away can be killed: at a write and a new file, of which nothing is done
// then, and at a read. Signals that do not end a program end no wait, and no program sees EINTR.
func TestKilledWaiter(t *testing.T) {
	r := newRig(t)
	flags := []string{"--state-size", "32", "--wait", "1h"}
	must(t, r.Mount(flags...))
	far := bytes.Repeat([]byte("far away"), 100_000)
	must(t, os.WriteFile(filepath.Join(r.Point, "far"), far, 0o644))
	must(t, os.WriteFile(filepath.Join(r.Point, "file"), []byte("before"), 0o644))
	must(t, os.Mkdir(filepath.Join(r.Point, "apart"), 0o755)) // in one directory the kernel makes one name at a time
	r.sync()
	must(t, r.Remount(flags...))
	_, err := os.ReadDir(r.Point) // what follows is to wait for room only
	must(t, err)
	r.server.Kill()
	writers := 0
	waits := func(more int) {
		t.Helper()
		writers += more
		until(t, r.Vault, "writers wait", func(st *shown) bool { return st.Bucket.Writers == writers })
	}

	// Each fills what is left, and then waits.
	start := func(script string) *waiter {
		t.Helper()
		w := &waiter{Cmd: exec.Command("sh", "-c", "exec "+script), ended: make(chan struct{})}
		w.Dir = r.Point
		must(t, w.Start())
		go func() {
			defer close(w.ended)
			_ = w.Wait() // how it ended is asked for
		}()
		t.Cleanup(func() { _ = w.Process.Kill() }) // it ends with the mount at the latest
		return w
	}
	filler := start("dd if=/dev/zero of=fill bs=4k count=50000 status=none")
	waits(1)
	appending := start("dd if=/dev/zero of=file bs=64k count=1 oflag=append conv=notrunc status=none")
	waits(1)
	making := start("mkdir made")
	waits(1)
	reading := start("cat far")

	// This program waits, too, and is sent what it handles.
	patient := make(chan error, 1)
	started, threads := make(chan int, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- unix.Gettid()
		<-threads
		patient <- unix.Mkdir(filepath.Join(r.Point, "apart", "patient"), 0o755)
	}()
	stop := pester(<-started)
	close(threads)
	waits(1)

	for _, c := range []struct {
		cmd    *waiter
		signal syscall.Signal
		waited int
	}{{filler, unix.SIGTERM, 1}, {appending, unix.SIGKILL, 1}, {making, unix.SIGUSR1, 1}, {reading, unix.SIGKILL, 0}} {
		must(t, c.cmd.Process.Signal(c.signal))
		heard(t, strings.Join(c.cmd.Args, " ")+" is killed", c.cmd.ended)
		if st := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !st.Signaled() || st.Signal() != c.signal {
			t.Errorf("%q ended with %v", c.cmd.Args, c.cmd.ProcessState)
		}
		waits(-c.waited)
	}
	select {
	case err := <-patient:
		t.Errorf("what was sent a signal that it handles does not wait: %v", err)
	default:
	}
	if _, err := os.Stat(filepath.Join(r.Point, "made")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was given up was done: %v", err)
	}
	r.restart()
	if err := heard(t, "the one that waits goes on", patient); err != nil {
		t.Errorf("mkdir: %v", err)
	}
	stop()
	r.sync()
	compare(t, r.Point, map[string][]byte{"file": []byte("before"), "far": far})
	if st, err := r.Status(); err != nil || st.Stopped != "" || st.Errors > 0 {
		t.Errorf("%v, %+v", err, st)
	}
	must(t, r.Unmount())
	must(t, r.Check())
}
