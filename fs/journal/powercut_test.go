package journal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"envfs/fs/journal"
	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

// TestPowerCuts replays what power losses at any moment leave of a journal on a real store over a file system that
// keeps no more than POSIX promises.
func TestPowerCuts(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { powerCuts(t, seeded(t, 100+seed)) })
	}
}

// moment is how far a workload had come.
type moment struct{ logged, appended, synced int }

func powerCuts(t *testing.T, rng *rand.Rand) {
	ctx := context.Background()
	m := memfs.New()
	cfg := config(openDir(t, m))
	cfg.MaxSegment = int64(4<<10 + rng.IntN(30<<10))
	w := journal.NewWriter(cfg, journal.Pos{}, 0)
	var all []done
	var h moment
	moments := []moment{{}}
	for n := range 80 {
		switch rng.IntN(8) {
		case 0:
			if err := w.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			h.synced = len(all)
		case 1:
			if err := w.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
		default:
			b := batch(n, rng.IntN(4))
			b.Durable = w.Durable().Number
			all = append(all, mustAppend(t, w, b))
			h.appended = len(all)
		}
		h.logged = m.Log().Len()
		moments = append(moments, h)
	}
	log := m.Log()
	for range 250 {
		upto := rng.IntN(log.Len() + 1)
		mode := []memfs.Mode{memfs.ModePrefix, memfs.ModeDropAll, memfs.ModeRandom, memfs.ModeTorn}[rng.IntN(4)]
		h := before(moments, upto)
		state := log.State(rng, upto, mode)
		got, res := run(t, replayOf(openDir(t, state)))
		checkPrefix(t, got, all)
		least := h.synced
		if mode == memfs.ModePrefix {
			least = h.appended
		}
		if len(got) < least || res.Break != nil && res.Break.Damage {
			t.Fatalf("after %d operations, mode %d: %d batches, %d were promised: %+v\n%s",
				upto, mode, len(got), least, res.Break, state.Schedule())
		}
		for _, f := range res.Foreign {
			if f.Authentic && !f.Lost || f.Fork {
				t.Fatalf("after %d operations, mode %d: %+v\n%s", upto, mode, f, state.Schedule())
			}
		}
	}
}

// before returns the last moment that had come after upto operations.
func before(moments []moment, upto int) (last moment) {
	for _, h := range moments {
		if h.logged <= upto {
			last = h
		}
	}
	return last
}

func openDir(t *testing.T, m *memfs.FS) *dir.Store {
	t.Helper()
	s, err := dir.Open("", dir.Options{FS: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
