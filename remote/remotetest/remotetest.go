// Package remotetest is the suite that every remote.Store passes: each sentence of package remote is a test in it.
package remotetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"envfs/blockcrypt"
	"envfs/remote"
)

// Run tests a Store. Each call of store makes a new, empty store and returns a function that opens it: each call
// another handle of that one store, which Run closes. What it opens is closed before the test ends.
func Run(t *testing.T, store func(t *testing.T) (open func() remote.Store)) {
	for _, test := range storeTests {
		t.Run(test.name, func(t *testing.T) {
			test.fn(newSubject(t, store(t)))
		})
	}
}

// RunLocal tests a Local, and it as a Store.
func RunLocal(t *testing.T, local func(t *testing.T) (open func() remote.Local)) {
	Run(t, func(t *testing.T) func() remote.Store {
		open := local(t)
		return func() remote.Store { return open() }
	})
	for _, test := range localTests {
		t.Run(test.name, func(t *testing.T) {
			open := local(t)
			x := newSubject(t, func() remote.Store { return open() })
			test.fn(&localSubject{subject: x, local: x.Store.(remote.Local)})
		})
	}
}

type storeTest struct {
	name string
	fn   func(x *subject)
}

var storeTests = slices.Concat(readTests, writeTests, replaceTests, listTests, otherTests)

// subject is a store under test. Its methods fail the test.
type subject struct {
	*testing.T
	remote.Store
	open func() remote.Store
	rng  *rand.Rand
	ctx  context.Context
}

func newSubject(t *testing.T, open func() remote.Store) *subject {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	x := &subject{T: t, rng: rand.New(rand.NewPCG(seed, 0)), ctx: t.Context()}
	x.open = func() remote.Store {
		s := open()
		t.Cleanup(func() { _ = s.Close() }) // many tests close it themselves
		return s
	}
	x.Store = x.open()
	return x
}

// name returns a new object's name.
func (x *subject) name(kind blockcrypt.Kind) string {
	n := blockcrypt.Name{Kind: kind, Term: x.rng.Uint64(), Seq: x.rng.Uint64()}
	x.fill(n.ID[:])
	x.fill(n.R[:])
	x.fill(n.Extra[:])
	return n.String()
}

func (x *subject) fill(p []byte) {
	for i := range p {
		p[i] = byte(x.rng.Uint32())
	}
}

// header returns a new name of the most common kind.
func (x *subject) header() string { return x.name(blockcrypt.KindHeader) }

func (x *subject) bytes(n int) []byte {
	p := make([]byte, n)
	x.fill(p)
	return p
}

func (x *subject) put(name string, data []byte) {
	x.Helper()
	x.ok("put", x.Put(x.ctx, name, data))
}

// object puts a new object of n bytes.
func (x *subject) object(n int) (name string, data []byte) {
	x.Helper()
	name, data = x.header(), x.bytes(n)
	x.put(name, data)
	return name, data
}

func (x *subject) ok(op string, err error) {
	x.Helper()
	if err != nil {
		x.Fatalf("%s: %v", op, err)
	}
}

// is checks that err wraps target.
func (x *subject) is(op string, err, target error) {
	x.Helper()
	if !errors.Is(err, target) {
		x.Errorf("%s: error %v, want one that wraps %q", op, err, target)
	}
}

// has checks that the object is there, by all methods that tell.
func (x *subject) has(s remote.Store, name string, want []byte) {
	x.Helper()
	size, err := s.Size(x.ctx, name)
	x.ok("size", err)
	if size != int64(len(want)) {
		x.Errorf("size of %s: %d, want %d", name, size, len(want))
	}
	got, err := s.Get(x.ctx, name, int64(len(want)))
	x.ok("get", err)
	if !bytes.Equal(got, want) {
		x.Errorf("get %s: other bytes than were put", name)
	}
	p := make([]byte, len(want)+1)
	n, err := s.ReadAt(x.ctx, name, p, 0)
	if n != len(want) || err != io.EOF || !bytes.Equal(p[:n], want) {
		x.Errorf("read one more byte than %s has: %d of %d, error %v, want io.EOF", name, n, len(want), err)
	}
	if got := x.list(s, name); len(got) != 1 || got[0] != (remote.Info{Name: name, Size: int64(len(want))}) {
		x.Errorf("list %s: %v", name, got)
	}
}

// lacks checks that there is no such object, by all methods that tell.
func (x *subject) lacks(s remote.Store, name string) {
	x.Helper()
	_, err := s.Size(x.ctx, name)
	x.is("size", err, remote.ErrNotExist)
	_, err = s.Get(x.ctx, name, 1<<20)
	x.is("get", err, remote.ErrNotExist)
	_, err = s.ReadAt(x.ctx, name, make([]byte, 1), 0)
	x.is("read", err, remote.ErrNotExist)
	if got := x.list(s, name); len(got) != 0 {
		x.Errorf("list %s: %v", name, got)
	}
}

// list returns what has the prefix, by name.
func (x *subject) list(s remote.Store, prefix string) (all []remote.Info) {
	x.Helper()
	x.ok("list", s.List(x.ctx, prefix, func(i remote.Info) error {
		all = append(all, i)
		return nil
	}))
	slices.SortFunc(all, func(a, b remote.Info) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return all
}

func (x *subject) names(s remote.Store, prefix string) (names []string) {
	x.Helper()
	for _, i := range x.list(s, prefix) {
		names = append(names, i.Name)
	}
	return names
}

// same returns a callback for Replace.
func same(content []byte) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return content, nil }
}
