package programs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// git runs git in dir.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return runIn(t, dir, "git", append([]string{"-c", "gc.auto=0"}, args...)...)
}

// newRepository makes a repository of 1,200 files on a bare directory.
func newRepository(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "origin")
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 1200 {
		name := filepath.Join(dir, fmt.Sprintf("d%02d", i%40), fmt.Sprintf("s%d", i%3), fmt.Sprintf("file-%04d.txt", i))
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, []byte(strings.Repeat(fmt.Sprintf("line %d\n", rng.IntN(1000)), 1+rng.IntN(200))), 0o644))
	}
	must(t, os.Symlink("../d00", filepath.Join(dir, "d01", "link")))
	must(t, os.Chmod(filepath.Join(dir, "d00", "s0", "file-0000.txt"), 0o755))
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "first")
	return dir
}

// edit changes every fifth file of a working tree, removes some, adds some.
func edit(t *testing.T, dir, text string) {
	t.Helper()
	for i := 0; i < 1200; i += 5 {
		name := filepath.Join(dir, fmt.Sprintf("d%02d", i%40), fmt.Sprintf("s%d", i%3), fmt.Sprintf("file-%04d.txt", i))
		switch i % 3 {
		case 0:
			must(t, os.WriteFile(name, []byte(text+"\n"), 0o644))
		case 1:
			must(t, os.Rename(name, name+"."+text))
		default:
			must(t, os.RemoveAll(name))
		}
	}
}

// A repository is cloned, worked on, packed anew and checked.
func TestGit(t *testing.T) {
	origin := newRepository(t)
	v := mount(t)
	dir := filepath.Join(v.Point, "clone")
	git(t, v.Point, "clone", "-q", "--no-local", origin, dir)
	clean := func(want string) {
		t.Helper()
		if got := git(t, dir, "status", "--porcelain"); got != "" {
			t.Fatalf("not clean:\n%s", tail(got))
		}
		if got := git(t, dir, "rev-parse", "HEAD^{tree}"); want != "" && got != want {
			t.Fatalf("tree %s, want %s", got, want)
		}
	}
	first := git(t, origin, "rev-parse", "HEAD^{tree}")
	clean(first)
	trees := map[string]string{"main": first}
	for i := range 3 {
		branch := fmt.Sprintf("work%d", i)
		git(t, dir, "checkout", "-q", "-b", branch, "main")
		edit(t, dir, branch)
		git(t, dir, "add", "-A")
		git(t, dir, "commit", "-q", "-m", branch)
		trees[branch] = git(t, dir, "rev-parse", "HEAD^{tree}")
		git(t, dir, "checkout", "-q", "main")
		clean(first)
	}
	git(t, dir, "gc", "-q", "--prune=now")
	git(t, dir, "fsck", "--full", "--strict")
	must(t, v.Remount())
	// What git's index remembers of each file (st_ino, times to the nanosecond, size) must be the same.
	if got := git(t, dir, "diff-files", "--name-only"); got != "" {
		t.Errorf("after mounting again git takes these for changed:\n%s", tail(got))
	}
	for branch, tree := range trees {
		git(t, dir, "checkout", "-q", branch)
		clean(tree)
	}
	git(t, dir, "fsck", "--full", "--strict")
	git(t, dir, "push", "-q", "origin", "work0", "work1", "work2")
	git(t, origin, "fsck", "--full")
}
