package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// once is the amount of work of steps that are measured in seconds.
const once = 1

// program runs a program in dir with what it reads from standard input; what it says on standard output is dropped.
func program(ctx context.Context, dir, input, name string, args ...string) error {
	var talk bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, environ(), &talk
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(talk.Bytes()))
	}
	return nil
}

// environ is without the settings of whoever runs this.
func environ() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "TZ=UTC",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
	}
}

func (s *site) tree() string { return filepath.Join(s.dir, "tree") }

// untar unpacks the archive.
func untar(ctx context.Context, s *site) (float64, error) {
	if err := os.Mkdir(s.tree(), 0o755); err != nil {
		return 0, err
	}
	return once, program(ctx, s.tree(), "", "tar", "-xf", s.kit.archive())
}

func removeTree(ctx context.Context, s *site) (float64, error) {
	return once, program(ctx, s.dir, "", "rm", "-rf", s.tree())
}

// clone clones the repository by git's protocol: a clone by path would copy files only.
func clone(ctx context.Context, s *site) (float64, error) {
	return once, program(ctx, s.dir, "", "git", "clone", "-q", "file://"+s.kit.repository(), "clone")
}

// insertSynced makes a database and adds rows, each in a transaction of its own that waits for the disk.
func insertSynced(ctx context.Context, s *site) (float64, error) {
	var script strings.Builder
	script.WriteString("CREATE TABLE t(n INTEGER PRIMARY KEY, word TEXT);\n")
	for i := range s.sizes.inserts {
		fmt.Fprintf(&script, "INSERT INTO t VALUES(%d, 'the owl and the pussycat, number %d');\n", i, i)
	}
	return float64(s.sizes.inserts), program(ctx, s.dir, script.String(), "sqlite3", "-bail", "synced.db")
}

// insertBulk makes a database and adds rows and an index in no order in one transaction, which waits for the disk.
func insertBulk(ctx context.Context, s *site) (float64, error) {
	script := fmt.Sprintf(`BEGIN;
CREATE TABLE t(n INTEGER PRIMARY KEY, word TEXT);
CREATE INDEX i ON t(word);
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < %d)
INSERT INTO t SELECT n, printf('%%08x: the owl and the pussycat went to sea in a beautiful pea-green boat', n * 2654435761 %% 4294967296) FROM r;
COMMIT;
`, s.sizes.rows)
	return once, program(ctx, s.dir, script, "sqlite3", "-bail", "bulk.db")
}
