package programs

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"envfs/tests/command"
)

// journals are the two ways in which sqlite makes transactions safe.
var journals = []string{"delete", "wal"}

// sqlite runs statements.
func sqlite(t *testing.T, db, sql string) string {
	t.Helper()
	return strings.TrimSpace(runIn(t, filepath.Dir(db), "sqlite3", "-batch", "-bail", "-cmd", ".timeout 600000", db, sql))
}

func newDatabase(t *testing.T, v *command.Vault, journal string) string {
	t.Helper()
	db := filepath.Join(v.Point, journal+".db")
	if got := sqlite(t, db, "pragma journal_mode="+journal+"; create table t(k integer primary key, who int, n int, data blob);"); got != journal {
		t.Fatalf("journal mode %q, want %q", got, journal)
	}
	return db
}

// wantRows compares the number of rows, and asks sqlite whether the database is whole.
func wantRows(t *testing.T, db string, want int) {
	t.Helper()
	if got := sqlite(t, db, "select count(*) from t; pragma integrity_check;"); got != fmt.Sprintf("%d\nok", want) {
		t.Fatalf("%s: %s, want %d rows and ok", filepath.Base(db), got, want)
	}
}

// Four connections write at once; every transaction is there, and the database is whole.
func TestSQLiteConnections(t *testing.T) {
	const writers, each = 4, 30
	v := mount(t)
	for _, journal := range journals {
		db := newDatabase(t, v, journal)
		errs := make(chan error, writers)
		for w := range writers {
			var sql strings.Builder
			fmt.Fprintf(&sql, "pragma synchronous=full;\n")
			for n := range each {
				fmt.Fprintf(&sql, "begin immediate; insert into t(who, n, data) values(%d, %d, randomblob(3000)); "+
					"update t set n=n+1 where who=%d; commit;\n", w, n, w)
			}
			go func() {
				cmd := exec.Command("sqlite3", "-batch", "-bail", "-cmd", ".timeout 600000", db)
				cmd.Stdin = strings.NewReader(sql.String())
				out, err := cmd.CombinedOutput()
				if err != nil {
					err = fmt.Errorf("writer %d: %w: %s", w, err, out)
				}
				errs <- err
			}()
		}
		for range writers {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		wantRows(t, db, writers*each)
		if got, want := sqlite(t, db, "select sum(n) from t;"), writers*each*each; got != fmt.Sprint(want) {
			t.Errorf("%s: sum %s, want %d", journal, got, want)
		}
	}
	must(t, v.Remount())
	for _, journal := range journals {
		wantRows(t, filepath.Join(v.Point, journal+".db"), writers*each)
	}
}

// The daemon is killed between transactions, while a connection is open: every committed transaction is there.
func TestSQLiteKilled(t *testing.T) {
	const rounds, each = 4, 5
	v := mount(t)
	for _, journal := range journals {
		db := newDatabase(t, v, journal)
		rows := 0
		for round := range rounds {
			cmd := exec.Command("sqlite3", "-batch", "-bail", db)
			stdin, err := cmd.StdinPipe()
			must(t, err)
			stdout, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			answers := bufio.NewScanner(stdout)
			for n := range each {
				_, err := fmt.Fprintf(stdin, "insert into t(who, n, data) values(%d, %d, randomblob(5000)); select 'done';\n", round, n)
				must(t, err)
				if !answers.Scan() || answers.Text() != "done" {
					t.Fatalf("%s: sqlite3 says %q (%v)", journal, answers.Text(), answers.Err())
				}
				rows++
			}
			must(t, v.Kill())
			stdin.Close()
			_, _ = io.Copy(io.Discard, stdout)
			_ = cmd.Wait() // its file system is gone, so it may say anything
			must(t, v.Mount())
			wantRows(t, db, rows)
		}
	}
}
