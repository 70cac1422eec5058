package fs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"envfs/keystore/pin"
	"envfs/remote"
)

// tryOpen is open for a vault that may be refused.
func (r *rig) tryOpen(edit func(*Options)) error {
	r.t.Helper()
	keep := r.opts
	defer func() { r.opts = keep }()
	edit(&r.opts)
	return r.openErr()
}

// A journal that ends before what this client has seen durable is not gone on from without a word.
func TestJournalShorterThanThePin(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	r.close()
	r.opts.StateDir = t.TempDir()
	r.open()
	r.write("a", []byte("first"))
	must(t, r.fs.Sync(ctx))
	names, err := filepath.Glob(filepath.Join(r.path, "journal", "*"))
	must(t, err)
	before := make(map[string][]byte)
	for _, name := range names {
		before[name], err = os.ReadFile(name)
		must(t, err)
	}
	r.write("b", []byte("second"))
	must(t, r.fs.Sync(ctx))
	r.fs.pinDurable()
	r.abandon()
	for name, data := range before { // the journal as it was a moment ago: whole, but older
		must(t, os.WriteFile(name, data, 0o600))
	}
	if err := r.tryOpen(func(*Options) {}); !errors.Is(err, ErrSetBack) {
		t.Fatalf("opening for writing: %v, want ErrSetBack", err)
	}
	must(t, r.tryOpen(func(o *Options) { o.ReadOnly = true }))
	if r.fs.Status().Older == "" {
		t.Error("nothing is said of what is missing")
	}
	if got := r.names("/"); len(got) != 1 || got[0] != "a" {
		t.Errorf("names %q", got)
	}
	r.close()
	must(t, r.tryOpen(func(o *Options) { o.AcceptOlder = true }))
	r.write("c", []byte("third"))
	r.close()
	r.open() // and is the newest from now on
	if got := r.names("/"); len(got) != 2 {
		t.Errorf("names %q", got)
	}
}

// A pin that is behind what lies on the store is normal.
func TestPinBehind(t *testing.T) {
	r := newRig(t)
	r.close()
	r.opts.StateDir = t.TempDir()
	r.open()
	r.write("a", []byte("first"))
	must(t, r.fs.Sync(t.Context()))
	r.fs.pinDurable()
	for _, name := range []string{"b", "c"} {
		r.write(name, []byte("more"))
		must(t, r.fs.Sync(t.Context()))
	}
	r.abandon()
	r.open()
	if got := r.names("/"); len(got) != 3 {
		t.Errorf("names %q", got)
	}
}

// A root that is pinned while operations go on does not set back what was pinned of the journal.
func TestPinKeepsWhatIsDurable(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	r.close()
	r.opts.StateDir = t.TempDir()
	var seen uint64
	r.wrap = func(st remote.Local) remote.Local {
		return &putting{st, func(name string) {
			if seen > 0 || !isFold(name) { // the fold has cut the journal
				return
			}
			r.write("b", []byte("second"))
			must(t, r.fs.Sync(ctx))
			seen = r.fs.durable.Load()
		}}
	}
	r.open()
	r.write("a", []byte("first"))
	must(t, r.fs.Fold(ctx))
	pins, err := pin.Load(r.opts.StateDir, r.fs.vault.ID)
	must(t, err)
	p, _ := pins.At(r.fs.store.Location())
	if seen <= r.fs.root.Cut {
		t.Fatalf("batch %d was durable, the fold cut at %d", seen, r.fs.root.Cut)
	}
	if p.Durable.Batch < seen {
		t.Errorf("batch %d is pinned as durable, %d was", p.Durable.Batch, seen)
	}
}

// putting is a store that tells which objects are about to be put.
type putting struct {
	remote.Local
	before func(name string)
}

func (p *putting) Put(ctx context.Context, name string, data []byte) error {
	p.before(name)
	return p.Local.Put(ctx, name, data)
}
