package crash

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// gitVictim commits again and again.
type gitVictim struct {
	dir, home string
	commits   int
	last      string // the newest commit that was reported done
}

func (g *gitVictim) git(args ...string) (string, error) {
	return runTool(g.dir, []string{"HOME=" + g.home, "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.com",
		"GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.com", "GIT_CONFIG_NOSYSTEM=1"}, "git", args...)
}

func (g *gitVictim) prepare() error {
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return err
	}
	if _, err := g.git("init", "-q"); err != nil {
		return err
	}
	_, err := g.git("config", "gc.auto", "0")
	return err
}

func (g *gitVictim) work() error {
	for {
		if err := g.commit(); err != nil {
			if brokenOffAt(g.dir, err) {
				return nil
			}
			return err
		}
	}
}

func (g *gitVictim) commit() error {
	g.commits++
	name := filepath.Join(g.dir, fmt.Sprintf("file%d", g.commits%20))
	if err := os.WriteFile(name, fmt.Appendf(nil, "%d\n%s", g.commits, strings.Repeat("line\n", g.commits%3000)), 0o644); err != nil {
		return err
	}
	if _, err := g.git("add", "-A"); err != nil {
		return err
	}
	if _, err := g.git("commit", "-q", "-m", strconv.Itoa(g.commits)); err != nil {
		return err
	}
	head, err := g.git("rev-parse", "HEAD")
	if err == nil {
		g.last = strings.TrimSpace(head)
	}
	return err
}

func (g *gitVictim) check() error {
	locks, err := filepath.Glob(filepath.Join(g.dir, ".git", "*.lock"))
	if err != nil {
		return err
	}
	more, err := filepath.Glob(filepath.Join(g.dir, ".git", "refs", "heads", "*.lock"))
	if err != nil {
		return err
	}
	for _, lock := range append(locks, more...) { // what git says to do after it was broken off
		if err := os.Remove(lock); err != nil {
			return err
		}
	}
	if _, err := g.git("fsck", "--strict"); err != nil {
		return err
	}
	if g.last == "" {
		return nil
	}
	if _, err := g.git("merge-base", "--is-ancestor", g.last, "HEAD"); err != nil {
		return fmt.Errorf("commit %s is gone: %w", g.last, err)
	}
	_, err = g.git("status", "--porcelain")
	return err
}

// sqliteVictim inserts rows, each a transaction.
type sqliteVictim struct {
	path, journal string
	rows          int // reported done
}

func (s *sqliteVictim) sql(script string) (string, error) {
	return runTool("/", nil, "sqlite3", "-bail", s.path, script)
}

func (s *sqliteVictim) prepare() error {
	_, err := s.sql("PRAGMA journal_mode=" + s.journal + "; CREATE TABLE t (n INTEGER PRIMARY KEY, v BLOB);")
	return err
}

func (s *sqliteVictim) work() error {
	cmd := exec.Command("sqlite3", "-bail", s.path)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	answers := bufio.NewScanner(out)
	for n := s.rows + 1; ; n++ {
		_, err := fmt.Fprintf(in, "INSERT INTO t VALUES (%d, randomblob(%d)); SELECT %d;\n", n, 10+n%9000, n)
		if err != nil || !answers.Scan() {
			break
		}
		if answers.Text() != strconv.Itoa(n) {
			return fmt.Errorf("sqlite3 says %q", answers.Text())
		}
		s.rows = n
	}
	in.Close()
	if err := cmd.Wait(); err != nil && !brokenOff(err) {
		return err
	}
	return answers.Err()
}

func (s *sqliteVictim) check() error {
	out, err := s.sql("PRAGMA integrity_check; SELECT count(*), max(n) FROM t;")
	if err != nil {
		return err
	}
	var n, newest int
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 || lines[0] != "ok" {
		return errors.New("sqlite3 says " + out)
	}
	if lines[1] == "0|" && s.rows == 0 {
		return nil
	}
	if _, err := fmt.Sscanf(lines[1], "%d|%d", &n, &newest); err != nil {
		return fmt.Errorf("sqlite3 says %q: %w", lines[1], err)
	}
	if n != newest || n < s.rows || n > s.rows+1 {
		return fmt.Errorf("%d rows up to %d are there, %d were reported done", n, newest, s.rows)
	}
	s.rows = n
	return nil
}
