package fs

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"envfs/remote"
	remotecache "envfs/remote/cache"
)

// outage is a shared store that is away at times: whoever writes waits then.
type outage struct {
	remote.Store
	away atomic.Pointer[chan struct{}] // closed when it is back
}

func (o *outage) leave() {
	back := make(chan struct{})
	o.away.Store(&back)
}

func (o *outage) comeBack() { close(*o.away.Swap(nil)) }

func (o *outage) wait(ctx context.Context) error {
	back := o.away.Load()
	if back == nil {
		return ctx.Err()
	}
	select {
	case <-*back:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *outage) Put(ctx context.Context, name string, data []byte) error {
	if err := o.wait(ctx); err != nil {
		return err
	}
	return o.Store.Put(ctx, name, data)
}

func (o *outage) Replace(ctx context.Context, name string, old []byte, content func([]byte) ([]byte, error)) error {
	if err := o.wait(ctx); err != nil {
		return err
	}
	return o.Store.Replace(ctx, name, old, content)
}

func (o *outage) Delete(ctx context.Context, names ...string) error {
	if err := o.wait(ctx); err != nil {
		return err
	}
	return o.Store.Delete(ctx, names...)
}

// When there is so much to fold that operations wait for it, and the bucket that the fold needs is away, they are refused
// after a while; what is there can be read, and when the bucket is back all goes on.
func TestFoldNeededWhileAway(t *testing.T) {
	machine := newShared(t)
	m := machine("alpha")
	far := new(outage)
	m.wrap = func(s remote.Store) remote.Store {
		far.Store = s
		return far
	}
	m.bound = remotecache.Options{Wait: 200 * time.Millisecond, Away: func() bool { return far.away.Load() != nil }}
	m.mustOpen(Options{Limits: Limits{Deltas: 16 << 10}})
	ctx := t.Context()
	must(t, m.fs.Publish(ctx))
	if st := m.fs.Status(); !st.UnpublishedSince.IsZero() {
		t.Errorf("waits although all is published: %v", st.UnpublishedSince)
	}
	far.leave()
	create := func(i int) error {
		ino, h, _, err := m.fs.Create(ctx, m.fs.top, fmt.Sprint("file", i), 0o644, Cred{})
		if err != nil {
			return err
		}
		h.Close()
		m.fs.Forget(ino, 1)
		return nil
	}
	n := 0
	var err error
	for ; n < 5000 && err == nil; n++ {
		err = create(n)
	}
	if n--; !errors.Is(err, ErrNoSpace) {
		t.Fatalf("%d files were made while the bucket is away, then: %v", n, err)
	}
	if st := m.fs.Status(); st.UnpublishedSince.IsZero() || st.Stopped != "" {
		t.Errorf("while it is away: %+v", st)
	}
	for i := range n {
		ino, _, err := m.fs.Lookup(ctx, m.fs.top, fmt.Sprint("file", i))
		if err != nil {
			t.Fatalf("file %d: %v", i, err)
		}
		m.fs.Forget(ino, 1)
	}
	far.comeBack()
	must(t, create(n)) // waits for the fold
	must(t, m.fs.Publish(ctx))
	if st := m.fs.Status(); !st.UnpublishedSince.IsZero() || st.UnpublishedBytes != 0 {
		t.Errorf("after it is back: %+v", st)
	}
	other := machine("beta")
	other.mustOpen(Options{ReadOnly: true})
	for i := range n + 1 {
		if _, ok := other.tree()[fmt.Sprint("file", i)]; !ok {
			t.Errorf("file %d is not there for others", i)
		}
	}
	m.close()
}
