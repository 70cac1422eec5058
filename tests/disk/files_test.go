package disk

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"envfs/tests/command"
)

// files are those whose writing was acknowledged: content by name. A nil content is one that may be anything.
type files map[string][]byte

// compare compares what is acknowledged with what is there.
func (fs files) compare(t *testing.T, v *command.Vault) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(fs)) {
		if fs[name] == nil {
			continue
		}
		if data, err := os.ReadFile(filepath.Join(v.Point, name)); err != nil || !bytes.Equal(data, fs[name]) {
			t.Fatalf("%s: %d bytes (%v), want the %d that were written", name, len(data), err, len(fs[name]))
		}
	}
	names, err := os.ReadDir(v.Point)
	must(t, err)
	for _, e := range names {
		if _, ok := fs[e.Name()]; !ok {
			t.Errorf("%s is there, but was never written or is removed", e.Name())
		}
	}
}
