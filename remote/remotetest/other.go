package remotetest

import (
	"bytes"
	"testing"

	"envfs/remote"
)

var otherTests = []storeTest{
	{"Space", func(x *subject) {
		s, err := x.Space(x.ctx)
		x.ok("space", err)
		if s.Total == 0 || s.Free > s.Total || s.Available > s.Free {
			x.Errorf("%+v", s)
		}
	}},
	{"Location", func(x *subject) {
		if x.Location() == "" || x.Location() != x.open().Location() {
			x.Errorf("%q and %q", x.Location(), x.open().Location())
		}
	}},
	{"Close", func(x *subject) {
		name, data := x.object(100)
		x.ok("sync", x.Sync(x.ctx))
		if _, err := x.ReadAt(x.ctx, name, make([]byte, 1), 0); err != nil {
			x.Fatal(err)
		}
		x.ok("close", x.Close())
		if x.Sync(x.ctx) == nil {
			x.Error("sync after close: no error")
		}
		x.has(x.open(), name, data)
	}},
}

// RunCopied tests that a copy of a store, made by whatever means, is told from the original. Each call of store makes a
// new, empty store and returns two functions: one opens it, the other copies it and opens the copy.
func RunCopied(t *testing.T, store func(t *testing.T) (open, copied func() remote.Store)) {
	open, copied := store(t)
	s := open()
	ctx := t.Context()
	var told []byte
	if err := s.Replace(ctx, "root", nil, func(id []byte) ([]byte, error) {
		told = bytes.Clone(id)
		return id, nil
	}); err != nil {
		t.Fatal(err)
	}
	c := copied()
	root, err := c.Get(ctx, "root", 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(root, told) {
		t.Fatal("the copy has another root")
	}
	id, err := c.Identity(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(id, told) {
		t.Errorf("the copy has the original's identity %x", id)
	}
}
