package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"envfs/tests/command"
)

// The disk dies while files are written and synced: writing stops, and when the disk is back a new mount has all that was
// synced.
func TestDeadDisk(t *testing.T) {
	d := newDisk(t, 100)
	v := d.newVault(t)
	fs := make(files)
	for i := range 30 {
		name := fmt.Sprintf("file%d", i)
		fs[name] = bytes.Repeat([]byte{byte(i)}, 30_000)
		must(t, writeSynced(filepath.Join(v.Point, name), fs[name]))
	}
	d.Cut(t)
	err := inTime(t, "fsync", func() error { return writeSynced(filepath.Join(v.Point, "failing"), make([]byte, 1<<20)) })
	if err == nil {
		t.Error("fsync succeeds on a dead disk")
	}
	fs["failing"], fs["late"] = nil, nil
	wantStopped(t, v, nil)
	err = inTime(t, "unmounting", func() error { _, err := v.TryUnmount(); return err })
	must(t, err)
	d.restart(t, v)
	must(t, v.Mount())
	fs.compare(t, v)
	finish(t, v)
}

// power is a workload that goes on until the power is cut, and knows what it was told is safe.
type power struct {
	v *command.Vault

	// From now on anything may fail, and what is said to be done counts for nothing: while a file system shuts down, ext4 may
	// say that a sync was done which was not, and when the power fails nobody is there to hear it.
	over atomic.Bool

	mu      sync.Mutex
	files   files // synced
	rows    int   // committed by sqlite
	trying  int   // rows that may or may not be there
	commits []string
}

// The power is cut while git, sqlite and a writer of synced files work: all that they were told is safe is there, the
// rest is whole, and nothing is damaged. Five times with the same vault.
func TestPowerCut(t *testing.T) {
	const rounds = 5
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	d := newDisk(t, 200)
	v := d.newVault(t)
	p := &power{v: v, files: make(files)}
	repo, db := filepath.Join(v.Point, "repo"), filepath.Join(v.Point, "db")
	git(t, "init", "-q", repo)
	system(t, "sqlite3", db, "create table t(n integer primary key, data blob)")
	must(t, os.Mkdir(filepath.Join(v.Point, "files"), 0o755))
	system(t, "sync", "-f", v.Point)
	for round := range rounds {
		p.over.Store(false)
		var work sync.WaitGroup
		began := make(chan struct{}, 3)
		for i, step := range []func(n int) error{p.writeFile, p.insert, p.commit} {
			work.Go(func() {
				for n := 0; !p.over.Load(); n++ {
					if err := step(round*1_000_000 + n); err != nil {
						if !p.over.Load() {
							t.Errorf("step %d of workload %d: %v", n, i, err)
						}
						break
					}
					if n == 3 {
						began <- struct{}{}
					}
				}
				select {
				case began <- struct{}{}:
				default:
				}
			})
		}
		for range 3 {
			<-began
		}
		cut := time.Duration(rng.IntN(1500)) * time.Millisecond
		time.Sleep(cut) // the moment is to be any; nothing depends on it
		p.over.Store(true)
		d.Cut(t)
		must(t, v.Kill())
		work.Wait()
		d.restart(t, v)
		must(t, v.Mount())
		p.verify(t, repo, db)
		t.Logf("round %d: cut after %v; %d files, %d rows, %d commits", round, cut, len(p.files), p.rows, len(p.commits))
		must(t, v.Check())
		if t.Failed() {
			return
		}
	}
	finish(t, v)
}

// writeFile writes a file, and syncs it and its directory.
func (p *power) writeFile(n int) error {
	name := fmt.Sprintf("files/%d", n)
	data := bytes.Repeat([]byte(fmt.Sprintf("%d,", n)), 1+n%7*3000)
	p.mu.Lock()
	p.files[name] = nil
	p.mu.Unlock()
	if err := writeSynced(filepath.Join(p.v.Point, name), data); err != nil {
		return err
	}
	if err := syncDir(filepath.Join(p.v.Point, "files")); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over.Load() {
		p.files[name] = data
	}
	return nil
}

// insert commits one row; sqlite syncs it.
func (p *power) insert(int) error {
	p.mu.Lock()
	n := p.rows + 1
	p.trying = n
	p.mu.Unlock()
	sql := fmt.Sprintf("pragma synchronous=extra; insert into t values(%d, randomblob(4000));", n)
	out, err := exec.Command("sqlite3", "-bail", filepath.Join(p.v.Point, "db"), sql).CombinedOutput()
	if err != nil {
		return fmt.Errorf("sqlite3: %w: %s", err, out)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over.Load() {
		p.rows = n
	}
	return nil
}

// gitCommand is git with a setting for disks that lose power.
func gitCommand(args ...string) *exec.Cmd {
	cmd := exec.Command("git", append([]string{"-c", "core.fsync=all", "-c", "core.fsyncMethod=fsync", "-c", "gc.auto=0",
		"-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "safe.directory=*"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	return cmd
}

func git(t *testing.T, args ...string) string {
	t.Helper()
	out, err := gitCommand(args...).CombinedOutput()
	if err != nil {
		t.Errorf("git %q: %v: %s", args, err, out)
	}
	return string(out)
}

// syncDir syncs a directory, and so the names in it.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// commit makes a commit of one changed file. Git's last step is to rename the branch's file, and it syncs no directory:
// to know that the commit is safe the directory has to be synced, as on any file system.
func (p *power) commit(n int) error {
	repo := filepath.Join(p.v.Point, "repo")
	if err := os.WriteFile(filepath.Join(repo, fmt.Sprintf("file%d", n%5)), []byte(strings.Repeat(fmt.Sprintln(n), 100)), 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-q", "-m", fmt.Sprintf("commit %d", n)}} {
		if out, err := gitCommand(append([]string{"-C", repo}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
	}
	if err := syncDir(filepath.Join(repo, ".git", "refs", "heads")); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over.Load() {
		p.commits = append(p.commits, fmt.Sprintf("commit %d", n))
	}
	return nil
}

// verify looks for all that was safe. What was not may be there.
func (p *power) verify(t *testing.T, repo, db string) {
	t.Helper()
	for name, want := range p.files {
		if want == nil {
			continue
		}
		if got, err := os.ReadFile(filepath.Join(p.v.Point, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes (%v), want %d", name, len(got), err, len(want))
		}
	}
	got := strings.Fields(system(t, "sqlite3", db, "pragma integrity_check; select count(*), coalesce(max(n), 0) from t"))
	switch {
	case len(got) != 2 || got[0] != "ok":
		t.Errorf("sqlite3: %q", got)
	case got[1] == fmt.Sprintf("%d|%d", p.trying, p.trying):
		p.rows = p.trying
	case got[1] != fmt.Sprintf("%d|%d", p.rows, p.rows):
		t.Errorf("%s rows, want %d, or %d", got[1], p.rows, p.trying)
	}
	_ = os.Remove(filepath.Join(repo, ".git", "index.lock")) // as git advises
	_ = os.Remove(filepath.Join(repo, ".git", "HEAD.lock"))
	locks, err := filepath.Glob(filepath.Join(repo, ".git", "refs", "heads", "*.lock"))
	must(t, err)
	for _, name := range locks {
		must(t, os.Remove(name))
	}
	git(t, "-C", repo, "fsck", "--full", "--strict", "--no-dangling")
	log := git(t, "-C", repo, "log", "--format=%s")
	for _, c := range p.commits {
		if !strings.Contains(log, c+"\n") {
			t.Errorf("%s is lost", c)
		}
	}
	git(t, "-C", repo, "reset", "-q", "--hard")
}
