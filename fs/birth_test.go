package fs

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"envfs/blockcrypt"
	"envfs/remote"
)

// asking is asked before each Put.
type asking struct {
	remote.Store
	ask func(name string) error
}

func (p *asking) Put(ctx context.Context, name string, data []byte) error {
	if err := p.ask(name); err != nil {
		return err
	}
	return p.Store.Put(ctx, name, data)
}

// What is made beside a fold is born for the next one. If a crash ends that fold, the one that comes in its place has no
// number before that birth.
func TestBornBesideAFoldThatEnds(t *testing.T) {
	ctx := context.Background()
	make := newShared(t)
	a := make("a")
	var beside atomic.Bool
	a.wrap = func(s remote.Store) remote.Store {
		return &asking{s, func(name string) error {
			if !strings.HasPrefix(name, "folds/") || !beside.CompareAndSwap(true, false) {
				return nil
			}
			a.write("two", pattern(100_000, 2))
			return errors.New("the power fails")
		}}
	}
	a.mustOpen(Options{})
	a.write("one", pattern(100_000, 1))
	beside.Store(true)
	if err := a.fs.Fold(ctx); err == nil {
		t.Fatal("the fold did not end")
	}
	a.kill()
	a.mustOpen(Options{})
	must(t, a.fs.Fold(ctx))
	rec, err := a.fs.loadFold(ctx, a.fs.rootNow().Fold)
	must(t, err)
	extents := 0
	for _, b := range rec.Born {
		n, err := blockcrypt.ParseName(b.Name)
		must(t, err)
		if n.Kind == blockcrypt.KindExtent {
			extents++
		}
		if n.Seq > rec.Seq {
			t.Errorf("fold %d names %s", rec.Seq, b.Name)
		}
	}
	if extents < 2 {
		t.Errorf("it names %d extents", extents)
	}
	a.close()
}
