package cache_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"envfs/remote"
	"envfs/remote/cache"
	"envfs/remote/dir"
)

// bounded opens a store whose state may hold 1,000 bytes.
func bounded(t *testing.T, p places, away func() bool, wait time.Duration) *cache.Store {
	t.Helper()
	d, err := dir.Open(p.far, dir.Options{})
	must(t, err)
	far := &denying{Store: d}
	s, err := cache.Open(far, cache.Options{State: p.state, Cache: p.cache, StateSize: 1000, Wait: wait, Away: away})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() }) // tests may have closed it
	return s
}

// denying is a shared store that refuses to take some objects.
type denying struct{ remote.Store }

var errDenied = errors.New("denied")

func (d *denying) Put(ctx context.Context, name string, data []byte) error {
	if name == segment {
		return errDenied
	}
	return d.Store.Put(ctx, name, data)
}

// Beyond the bound of the state writers wait until something is published. They are refused when the shared store has been
// away for as long as they wait for it, and not before, and may give up.
func TestBoundOfTheState(t *testing.T) {
	ctx := t.Context()
	p := newPlaces(t)
	var away atomic.Bool
	s := bounded(t, p, away.Load, 300*time.Millisecond)
	create(t, s, extent, make([]byte, 600))
	create(t, s, segment, make([]byte, 300))
	if u := s.Usage(); u.State != 900 || u.StateBound != 1000 || u.Writers != 0 {
		t.Errorf("%+v", u)
	}
	must(t, s.Admit(ctx, 100))

	waits := func(ctx context.Context) <-chan error {
		admitted := make(chan error, 1)
		before := s.Usage().Writers
		go func() { admitted <- s.Admit(ctx, 101) }()
		for s.Usage().Writers == before {
			select {
			case err := <-admitted:
				if err == nil {
					t.Fatal("admitted beyond the bound")
				}
				admitted <- err // it has waited already, for as long as it does
				return admitted
			default:
			}
		}
		return admitted
	}
	giveUp, cancel := context.WithCancel(ctx)
	gone := waits(giveUp)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up: %v", err)
	}
	began := time.Now()
	away.Store(true)
	if err := <-waits(ctx); !errors.Is(err, remote.ErrNoSpace) || time.Since(began) < 300*time.Millisecond {
		t.Errorf("while it is away: %v after %v", err, time.Since(began))
	}
	if err := s.Await(ctx, make(chan error)); !errors.Is(err, remote.ErrNoSpace) {
		t.Errorf("work that needs what is away: %v", err)
	}
	away.Store(false)
	done := make(chan error, 1)
	stuck := errors.New("stuck")
	time.AfterFunc(time.Second, func() { done <- stuck }) // more than three times what would be waited for one that is away
	if err := s.Await(ctx, done); err != stuck {
		t.Errorf("slow work: %v", err)
	}

	if err := s.Publish(ctx, []remote.Info{{Name: segment, Size: 300}}); !errors.Is(err, errDenied) {
		t.Fatal(err)
	}
	if err := <-waits(ctx); !errors.Is(err, remote.ErrNoSpace) {
		t.Errorf("while publishing fails: %v", err)
	}

	must(t, s.Close())
	s = bounded(t, p, away.Load, time.Hour) // a writer that may have to wait for long until something is published
	if err := s.Publish(ctx, []remote.Info{{Name: segment, Size: 300}}); !errors.Is(err, errDenied) {
		t.Fatal(err)
	}
	admitted := waits(ctx)
	must(t, s.Publish(ctx, []remote.Info{{Name: extent, Size: 600}}))
	must(t, s.Release(ctx, []string{extent}))
	if err := <-admitted; err != nil {
		t.Errorf("after some was published: %v", err)
	}
	if u := s.Usage(); u.State != 300 || u.Sent != 600 || u.Writers != 0 || !u.WaitSince.IsZero() {
		t.Errorf("%+v", u)
	}
	must(t, s.Close())
	s = bounded(t, p, nil, 0)
	if u := s.Usage(); u.State != 300 {
		t.Errorf("opened again: %+v", u)
	}
	must(t, s.Delete(ctx, segment))
	if u := s.Usage(); u.State != 0 {
		t.Errorf("after all was deleted: %+v", u)
	}
}
