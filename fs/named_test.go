package fs

import (
	"context"
	crand "crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"envfs/keystore"
	"envfs/remote"
	remotedir "envfs/remote/dir"
)

// lossy is a store that does not get some objects.
type lossy struct {
	remote.Store
	lose func(name string) bool // may be nil
}

func (l *lossy) Put(ctx context.Context, name string, data []byte) error {
	if l.lose != nil && l.lose(name) {
		return errCutOff
	}
	return l.Store.Put(ctx, name, data)
}

// Of the segments that a publication sends together any may have arrived when it is cut off. Others see what root names
// then, and take that over; what was sent and not named is removed.
func TestHalfSent(t *testing.T) {
	ctx := t.Context()
	for missing := range 3 {
		machines := newShared(t)
		a, b := machines("a"), machines("b")
		store := new(lossy)
		a.wrap = func(s remote.Store) remote.Store {
			store.Store = s
			return store
		}
		a.mustOpen(Options{})
		a.write("named", pattern(50_000, 1))
		must(t, a.fs.Publish(ctx))
		want := a.tree()
		segment := func(name string) bool { return strings.HasPrefix(name, "journal/") }
		store.lose = segment
		for i := range 3 { // each leaves a segment here
			a.write("later", pattern(60_000, byte(i)))
			if err := a.fs.Publish(ctx); !errors.Is(err, errCutOff) {
				t.Fatalf("publish: %v", err)
			}
		}
		live := a.fs.unseen(a.fs.liveSegments())
		if len(live) < 3 {
			t.Fatalf("%d segments wait", len(live))
		}
		store.lose = func(name string) bool { return name == "root" || name == live[missing].Name }
		if err := a.fs.Publish(ctx); !errors.Is(err, errCutOff) {
			t.Fatalf("publish: %v", err)
		}
		a.kill()
		sameTree(t, "published", b.published(), want)
		b.mustOpen(Options{Takeover: true})
		sameTree(t, "taken over", b.tree(), want)
		sameTree(t, "published then", b.published(), want)
		b.close()
		if err := a.open(Options{}); !errors.Is(err, ErrOvertaken) {
			t.Errorf("opened after being overtaken: %v", err)
		}
		far, err := remotedir.Open(a.far, remotedir.Options{ReadOnly: true})
		must(t, err)
		for _, s := range live {
			if _, err := far.Size(ctx, s.Name); !errors.Is(err, remote.ErrNotExist) {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
		must(t, far.Close())
	}
}

// Whoever takes a vault over may change its keys. What was not published before is not forgotten for that.
func TestOvertakenByOtherKeys(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("a"), machines("b")
	a.mustOpen(Options{})
	a.write("both", pattern(50_000, 1))
	must(t, a.fs.Publish(ctx))
	a.write("mine", pattern(50_000, 2))
	must(t, a.fs.Sync(ctx))
	want := a.tree()
	a.kill()
	b.mustOpen(Options{Takeover: true})
	must(t, b.fs.ChangeKeys(ctx, func(v *keystore.Vault) (*keystore.Vault, error) { return v.Rotate(crand.Reader, time.Now()) }))
	b.close()
	if err := a.open(Options{}); !errors.Is(err, ErrOvertaken) {
		t.Fatalf("opened after being overtaken: %v", err)
	}
	lost := a.setAside()
	sameTree(t, "lost", (&machine{t: t, fs: lost}).tree(), want)
	must(t, lost.Close(ctx))
}

// Who was overtaken and does not know it yet deletes nothing.
func TestOvertakenDeletesNothing(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("a"), machines("b")
	clock := &fixedClock{now: time.Now()}
	a.mustOpen(Options{Clock: clock})
	for i := range 4 {
		a.write("file", pattern(50_000, byte(i)))
		must(t, a.fs.Fold(ctx))
	}
	b.mustOpen(Options{Takeover: true})
	all := func() (names []string) {
		far, err := remotedir.Open(b.far, remotedir.Options{ReadOnly: true})
		must(t, err)
		must(t, far.List(ctx, "", func(i remote.Info) error {
			names = append(names, i.Name)
			return nil
		}))
		must(t, far.Close())
		slices.Sort(names)
		return names
	}
	before := all()
	clock.now = clock.now.Add(100 * 24 * time.Hour)
	a.fs.foldMu.Lock()
	err := a.fs.reclaim(ctx)
	a.fs.foldMu.Unlock()
	if !errors.Is(err, ErrOvertaken) {
		t.Errorf("delete what is superseded: %v", err)
	}
	if _, _, err := a.fs.Sweep(ctx); !errors.Is(err, ErrOvertaken) {
		t.Errorf("remove orphans: %v", err)
	}
	if after := all(); !slices.Equal(before, after) {
		t.Errorf("%d objects are left of %d", len(after), len(before))
	}
	b.close()
}
