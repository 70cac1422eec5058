package tamper

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	threats    = "../../docs/THREATS.md"
	tableBegin = "| attack | verdict | what comes of it |\n|---|---|---|\n"
)

// table returns the table of docs/THREATS.md.
func table() string {
	var b strings.Builder
	b.WriteString(tableBegin)
	for _, a := range attacks() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", a.name, a.verdict, a.effect)
	}
	return b.String()
}

// TestThreatsTable: what docs/THREATS.md promises of each attack is what is tested, line by line.
func TestThreatsTable(t *testing.T) {
	data, err := os.ReadFile(threats)
	must(t, err)
	_, rest, ok := strings.Cut(string(data), tableBegin)
	if !ok {
		t.Fatalf("%s has no table of attacks", threats)
	}
	in, _, _ := strings.Cut(rest, "\n\n")
	in = tableBegin + strings.TrimSuffix(in, "\n") + "\n"
	if want := table(); in != want {
		t.Errorf("the table in %s should be\n\n%s", threats, want)
	}
	elsewhere := map[string]bool{
		"lower the cost of a passphrase":                   true, // keystore: TestHostileCosts, TestAlterEveryField
		"a removed holder forges a block of an old extent": true, // testForgedBlock
	}
	for _, r := range rollbacks() {
		elsewhere[r.name] = true
	}
	for _, a := range attacks() {
		if len(a.cases) == 0 && !elsewhere[a.name] {
			t.Errorf("%q is not tried", a.name)
		}
		if len(a.cases) > 0 && a.verdict != found && a.verdict != harmless {
			t.Errorf("%q is tried without a pin", a.name)
		}
	}
}
