package journal_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"envfs/fs/journal"
	"envfs/remote"
	"envfs/remote/dir/memfs"
)

// What is reserved can be appended on a disk that is full, over the ends of segments; what is not cannot be reserved, and
// that changes nothing.
func TestReserve(t *testing.T) {
	ctx := context.Background()
	m := memfs.New()
	s := openDir(t, m)
	cfg := config(s)
	cfg.MaxSegment = 64 << 10
	w := journal.NewWriter(cfg, journal.Pos{}, 0)
	if w.Room() != 0 {
		t.Fatalf("room %d before the first segment", w.Room())
	}
	rng := seeded(t, 7)
	var want []done
	for n := 0; n < 200; {
		m.SetCapacity(0)
		reserve := int64(1 + rng.IntN(20<<10))
		if err := w.Reserve(ctx, reserve); err != nil {
			t.Fatal(err)
		}
		if w.Room() < reserve {
			t.Fatalf("room %d, reserved %d", w.Room(), reserve)
		}
		rotate := rng.IntN(4) == 0
		if rotate {
			if err := w.Prepare(ctx, reserve); err != nil {
				t.Fatal(err)
			}
		}
		m.SetCapacity(1) // full
		for _, more := range []int64{w.Room() + 1, 1 << 30} {
			before := w.Position()
			if err := w.Reserve(ctx, more); !errors.Is(err, remote.ErrNoSpace) {
				t.Fatalf("reserve %d: %v, want ErrNoSpace", more, err)
			}
			if w.Position() != before {
				t.Fatal("a failed reservation has moved the end of the journal")
			}
		}
		if rotate {
			if err := w.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for {
			b := batch(n, n%3)
			before := w.Room()
			if before < 6000 { // more than the batch takes
				break
			}
			want = append(want, mustAppend(t, w, b))
			n++
			if w.Room() >= before {
				t.Fatal("appending takes no room")
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m.SetCapacity(0)
	got, res := run(t, replayOf(s))
	if len(got) != len(want) || res.Break != nil || res.Foreign != nil {
		t.Fatalf("%d batches of %d, %+v", len(got), len(want), res)
	}
	checkPrefix(t, got, want)
}

func TestReserveWhereTheStoreCannot(t *testing.T) {
	s := newMemStore()
	s.fail = func(op, _ string) error {
		if op == "reserve" {
			return remote.ErrUnsupported
		}
		return nil
	}
	w := journal.NewWriter(config(s), journal.Pos{}, 0)
	if err := w.Reserve(context.Background(), 1<<40); err != nil || w.Room() != math.MaxInt64 {
		t.Fatalf("room %d, %v", w.Room(), err)
	}
	mustAppend(t, w, batch(1, 1))
}

// A segment that cannot be made for want of space is no reason to stop.
func TestNoSpaceForASegment(t *testing.T) {
	s := newMemStore()
	w := journal.NewWriter(config(s), journal.Pos{}, 0)
	want := []done{mustAppend(t, w, batch(0, 0))}
	s.fail = func(op, _ string) error {
		if op == "create" {
			return remote.ErrNoSpace
		}
		return nil
	}
	for range 2 {
		if err := w.Prepare(context.Background(), 10); !errors.Is(err, remote.ErrNoSpace) {
			t.Fatalf("prepare: %v", err)
		}
		if err := w.Rotate(context.Background()); !errors.Is(err, remote.ErrNoSpace) {
			t.Fatalf("rotate: %v", err)
		}
	}
	want = append(want, mustAppend(t, w, batch(1, 1)))
	s.fail = nil
	if err := w.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	want = append(want, mustAppend(t, w, batch(2, 1)))
	got, _ := run(t, replayOf(s))
	checkPrefix(t, got, want)
	if len(got) != 3 {
		t.Fatalf("%d batches", len(got))
	}
}

// The first segment is the one that is prepared, if one is: its room was promised.
func TestFirstSegmentIsThePreparedOne(t *testing.T) {
	ctx := context.Background()
	for _, rotate := range []bool{true, false} {
		m := memfs.New()
		s := openDir(t, m)
		w := journal.NewWriter(config(s), journal.Pos{}, 1)
		const room = 20 << 10
		if err := w.Prepare(ctx, room); err != nil {
			t.Fatal(err)
		}
		m.SetCapacity(1) // full
		if rotate {
			if err := w.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
			if w.Room() < room {
				t.Errorf("room %d, prepared %d", w.Room(), room)
			}
		}
		want := []done{mustAppend(t, w, batch(0, 1))}
		if n := w.NextSeq(); n != 2 {
			t.Errorf("the next segment is number %d: more than one was made", n)
		}
		m.SetCapacity(0)
		if err := w.Rotate(ctx); err != nil {
			t.Fatal(err)
		}
		want = append(want, mustAppend(t, w, batch(1, 1)))
		got, res := run(t, replayOf(s))
		if len(got) != len(want) || res.Break != nil {
			t.Fatalf("%d batches of %d, %+v", len(got), len(want), res)
		}
		checkPrefix(t, got, want)
	}
}
