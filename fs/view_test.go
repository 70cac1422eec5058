package fs

import (
	"context"
	"sync/atomic"
	"testing"

	"envfs/blockcrypt"
	"envfs/remote"
)

// beforeGet is a store that calls a function once before an index is read.
type beforeGet struct {
	remote.Local
	fn *atomic.Pointer[func()]
}

func (b *beforeGet) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if n, err := blockcrypt.ParseName(name); err == nil && n.Kind == blockcrypt.KindIndex {
		if fn := b.fn.Swap(nil); fn != nil {
			(*fn)()
		}
	}
	return b.Local.Get(ctx, name, limit)
}

// An object that is superseded and deleted while somebody is about to read it is not missing: what is there instead is read.
func TestSupersededWhileRead(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	r.close()
	clock := new(leapClock)
	r.opts.Clock = clock
	var before atomic.Pointer[func()]
	r.wrap = func(s remote.Local) remote.Local { return &beforeGet{s, &before} }
	r.open()
	r.mkdir("/d")
	r.write("/d/old", pattern(100, 1))
	must(t, r.fs.Fold(ctx))
	r.forget()
	work := func() {
		for i := range byte(3) {
			r.write("/d/new", pattern(100, i))
			must(t, r.fs.Fold(ctx))
			clock.leap()
		}
		r.forget()
	}
	before.Store(&work)
	for name, seed := range map[string]byte{"/d/old": 1, "/d/new": 2} {
		if got := r.read(name); string(got) != string(pattern(100, seed)) {
			t.Errorf("%s has %d bytes of something else", name, len(got))
		}
	}
	if before.Load() != nil {
		t.Error("no index was read")
	}
}
