package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"envfs/tests/bench/lab"
)

// once is the amount of work of steps that are measured in seconds.
const once = 1

func (s *site) tree() string { return filepath.Join(s.dir, "tree") }

// untar unpacks the archive.
func untar(ctx context.Context, s *site) (float64, error) {
	if err := os.Mkdir(s.tree(), 0o755); err != nil {
		return 0, err
	}
	return once, lab.Program(ctx, s.tree(), "", "tar", "-xf", s.kit.archive())
}

func removeTree(ctx context.Context, s *site) (float64, error) {
	return once, lab.Program(ctx, s.dir, "", "rm", "-rf", s.tree())
}

func clone(ctx context.Context, s *site) (float64, error) {
	return once, lab.Clone(ctx, s.dir, s.kit.repository())
}

func insertSynced(ctx context.Context, s *site) (float64, error) {
	return float64(s.sizes.inserts), lab.InsertSynced(ctx, s.dir, s.sizes.inserts)
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
	return once, lab.Program(ctx, s.dir, script, "sqlite3", "-bail", "bulk.db")
}
