package fs

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Recovery refuses a batch whose extent a power loss has torn, and goes on behind the batch before it. The refused batch
// lies in its segment still; what is written and synced afterwards calls batches of its number durable. It must not be
// taken for one of those at the next opening.
func TestRefusedBatchStaysRefused(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	r.write("a", pattern(100, 1))
	must(t, r.fs.Sync(ctx))
	r.write("torn", pattern(100_000, 2))
	r.write("later", pattern(100, 3))
	r.abandon()
	extents, err := filepath.Glob(filepath.Join(r.path, "files/??/*.x*"))
	must(t, err)
	if len(extents) != 1 {
		t.Fatalf("%d extents", len(extents))
	}
	must(t, os.Truncate(extents[0], 50_000))

	r.open()
	if got := r.names("/"); !slices.Equal(got, []string{"a"}) && !slices.Equal(got, []string{"a", "torn"}) {
		t.Fatalf("names after recovery: %q", got)
	}
	kept := r.names("/")
	for i, name := range []string{"b", "c", "d", "e", "f"} {
		r.write(name, pattern(200, byte(i)))
		must(t, r.fs.Sync(ctx))
	}
	want := append(kept, "b", "c", "d", "e", "f")
	slices.Sort(want)
	for range 2 {
		r.abandon()
		r.open()
		if got := r.names("/"); !slices.Equal(got, want) {
			t.Fatalf("names %q, want %q", got, want)
		}
		for i, name := range []string{"b", "c", "d", "e", "f"} {
			if got := r.read(name); !bytes.Equal(got, pattern(200, byte(i))) {
				t.Errorf("%s is not what was written", name)
			}
		}
	}
}
