package server_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"envfs/kms/audit"
)

func unmarshal(t testing.TB, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

// quote returns a string as JSON.
func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// quoteBytes returns bytes as JSON: base64.
func quoteBytes(b []byte) string {
	b, _ = json.Marshal(b)
	return string(b)
}

// readLog reads the entries of a log, and returns its text.
func readLog(t testing.TB, dir string, entries *[]audit.Entry) []byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "audit", "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no log: %v", err)
	}
	var all []byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	for line := range bytes.Lines(all) {
		_, body, _ := bytes.Cut(line, []byte(" "))
		var e audit.Entry
		unmarshal(t, body, &e)
		*entries = append(*entries, e)
	}
	return all
}
