package journal_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"envfs/fs/journal"
)

// history is what was done to a store, over several mounts.
type history struct {
	all    []done
	synced int // batches of all that were promised to survive a power loss
}

// TestCrashes runs mounts one after another, each ending in a power loss or kill -9, on what the last left.
func TestCrashes(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { crashes(t, seed) })
	}
}

func crashes(t *testing.T, seed uint64) {
	ctx := context.Background()
	rng := seeded(t, seed)
	s := newMemStore()
	var h history
	for mount := range 6 {
		got, res := run(t, replayOf(s))
		checkPrefix(t, got, h.all)
		if len(got) < h.synced {
			t.Fatalf("mount %d: %d batches, %d were synced: %+v", mount, len(got), h.synced, res.Break)
		}
		if res.Break != nil && res.Break.Damage {
			t.Fatalf("mount %d: a crash is called damage: %+v", mount, res.Break)
		}
		for _, f := range res.Foreign {
			if f.Authentic && !f.Lost {
				t.Fatalf("mount %d: a crash left a foreign segment: %+v", mount, f)
			}
			if f.Fork {
				t.Fatalf("mount %d: a crash is called a fork: %+v", mount, f)
			}
			delete(s.objects, f.Name) // what recovery does with what a crash left
		}
		for _, name := range res.Empty {
			delete(s.objects, name)
		}
		h = history{all: got, synced: len(got)}
		cfg := config(s)
		cfg.MaxSegment = int64(2<<10 + rng.IntN(30<<10))
		w := journal.NewWriter(cfg, res.End, res.NextSeq[cfg.Term])
		for op := range rng.IntN(60) {
			switch rng.IntN(8) {
			case 0:
				if err := w.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				h.synced = len(h.all)
			case 1:
				if err := w.Rotate(ctx); err != nil {
					t.Fatal(err)
				}
			default:
				b := batch(op, rng.IntN(3))
				b.Durable = w.Durable().Number
				h.all = append(h.all, mustAppend(t, w, b))
			}
			if rng.IntN(8) == 0 {
				checkCrash(t, s.crash(rng), h)
			}
		}
		if rng.IntN(3) == 0 {
			s, h.synced = s.clone(), len(h.all)
			for _, o := range s.objects {
				o.synced, o.named = len(o.data), true // opening settles what it finds
			}
		} else {
			s = s.crash(rng)
		}
	}
}

// checkCrash replays one possible crash state.
func checkCrash(t *testing.T, s *memStore, h history) {
	got, res := run(t, replayOf(s))
	checkPrefix(t, got, h.all)
	if len(got) < h.synced || res.Break != nil && res.Break.Damage {
		t.Fatalf("%d batches, %d were synced: %+v", len(got), h.synced, res.Break)
	}
}

// TestBitFlips changes one bit, or cuts or clears a piece, anywhere: what replays is a prefix, and if something that
// was called durable is gone, that is said.
func TestBitFlips(t *testing.T) {
	ctx := context.Background()
	rng := seeded(t, 11)
	s := newMemStore()
	w := journal.NewWriter(config(s), journal.Pos{}, 0)
	var want []done
	var ends []int // of the batches in their segments
	for n := range 24 {
		b := batch(n, n%3)
		b.Durable = w.Durable().Number
		want = append(want, mustAppend(t, w, b))
		refs := w.Segments()
		ends = append(ends, int(refs[len(refs)-1].Length))
		if err := w.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if n%8 == 7 {
			if err := w.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, whole := run(t, replayOf(s))
	for i := range 1500 {
		c := s.clone()
		names := w.Segments()
		name := names[rng.IntN(len(names))].Name
		o := c.objects[name]
		at := rng.IntN(len(o.data))
		if rng.IntN(4) == 0 {
			at = rng.IntN(400) // where it hurts
		}
		before := bytes.Clone(o.data)
		to := at + 1
		switch rng.IntN(5) {
		case 0:
			o.data, to = o.data[:at], len(o.data)
		case 1:
			to = min(len(o.data), at+512)
			clear(o.data[at:to])
		default:
			o.data[at] ^= 1 << rng.IntN(8)
		}
		got, res := run(t, replayOf(c))
		checkPrefix(t, got, want)
		if bytes.Equal(before, o.data) {
			continue
		}
		if len(got) == len(want) && res.End == whole.End {
			t.Fatalf("change %d at %d of %s was not noticed", i, at, name)
		}
		// What the batches that are still whole call durable.
		var durable uint64
		for n, d := range want {
			start := 0
			if n > 0 && want[n-1].at.Segment == d.at.Segment {
				start = ends[n-1]
			}
			if d.at.Segment != name || ends[n] <= at || start >= to {
				durable = max(durable, d.b.Durable)
			}
		}
		if res.End.Number < durable && (res.Break == nil || !res.Break.Damage) {
			t.Fatalf("change %d at %d of %s: ends at %d, durable was %d: %+v, foreign %+v",
				i, at, name, res.End.Number, durable, res.Break, res.Foreign)
		}
	}
}
