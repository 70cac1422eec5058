package lab

import (
	"context"
	"fmt"
	"strings"
)

// Clone clones a repository into dir by git's protocol: a clone by path would copy files only.
func Clone(ctx context.Context, dir, repository string) error {
	return Program(ctx, dir, "", "git", "clone", "-q", "file://"+repository, "clone")
}

// InsertSynced makes a database in dir and adds n rows, each in a transaction of its own that waits for the disk.
func InsertSynced(ctx context.Context, dir string, n int) error {
	var script strings.Builder
	script.WriteString("CREATE TABLE t(n INTEGER PRIMARY KEY, word TEXT);\n")
	for i := range n {
		fmt.Fprintf(&script, "INSERT INTO t VALUES(%d, 'the owl and the pussycat, number %d');\n", i, i)
	}
	return Program(ctx, dir, script.String(), "sqlite3", "-bail", "synced.db")
}
