package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"envfs/tests/command"
)

// victim is a workload on a mount whose daemon is about to be killed.
type victim interface {
	// prepare makes what the workload stands on.
	prepare() error

	// work goes on until something fails, which it does once the daemon is gone. It remembers what was reported done.
	work() error

	// check says whether all that was reported done is there.
	check() error
}

// TestKill kills the daemon of a mount with SIGKILL at random moments, while git, sqlite3 and random operations are at
// work: all that was reported done is there afterwards.
func TestKill(t *testing.T) {
	const rounds = 50
	seed := newSeed(t)
	rng := rand.New(source(seed, 1))
	binary, err := command.Build(t.TempDir())
	must(t, err)
	home := t.TempDir()
	v, err := command.New(binary, filepath.Join(t.TempDir(), "store"), home)
	must(t, err)
	t.Cleanup(func() {
		if err := v.Discard(); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if t.Failed() {
			log, _ := v.Log()
			t.Logf("log of the daemons:\n%s", log)
		}
	})
	must(t, v.Mount())
	victims := map[string]victim{
		"operations": newOperations(filepath.Join(v.Point, "operations"), seed),
		"git":        &gitVictim{dir: filepath.Join(v.Point, "git"), home: home},
		"sqlite":     &sqliteVictim{path: filepath.Join(v.Point, "db"), journal: "delete"},
		"sqlite wal": &sqliteVictim{path: filepath.Join(v.Point, "wal.db"), journal: "wal"},
	}
	for name, w := range victims {
		if err := w.prepare(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for round := range rounds {
		killed := make(chan error, 1)
		time.AfterFunc(time.Duration(rng.IntN(400_000))*time.Microsecond, func() { killed <- v.Kill() })
		var wg sync.WaitGroup
		for name, w := range victims {
			wg.Go(func() {
				if err := w.work(); err != nil {
					t.Errorf("round %d: %s: %v", round, name, err)
				}
			})
		}
		wg.Wait()
		// The mount is dead before the process is gone, and with it the store's lock.
		must(t, <-killed)
		flags := []string(nil)
		if round%2 == 0 {
			flags = []string{"--writeback"}
		}
		if err := v.Mount(flags...); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for name, w := range victims {
			if err := w.check(); err != nil {
				t.Errorf("seed: -crash.seed=%d round %d: %s: %v", seed, round, name, err)
			}
		}
		if t.Failed() {
			return
		}
		if round%10 == 9 { // folds everything
			must(t, v.Remount())
		}
	}
	must(t, v.Unmount(), v.Check())
}

// runTool runs a program and returns what it says.
func runTool(dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return string(out), nil
}

// brokenOff reports whether a program has failed, or a system call because the daemon is gone. What a program had not
// reported done does not matter.
func brokenOff(err error) bool {
	_, exited := errors.AsType[*exec.ExitError](err)
	return exited || errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
}

// brokenOffAt is brokenOff of a system call on the mount that path lies on: what the kernel has not written yet when the
// daemon goes cannot be written any more, of which close(2) may be the first to tell.
func brokenOffAt(path string, err error) bool {
	return brokenOff(err) || errors.Is(err, syscall.EIO) && brokenOff(syscall.Statfs(path, new(syscall.Statfs_t)))
}
