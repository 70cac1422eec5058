package journal_test

import (
	"context"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// endsAt returns a Replay.Ended by which the tests' term ended with a batch.
func endsAt(last uint64) func(uint64, blockcrypt.Tag) (uint64, bool) {
	return func(term uint64, tag blockcrypt.Tag) (uint64, bool) { return last, tag == testTag }
}

// A segment that lies behind the end of its term altogether is no part of the journal, although it continues it: who
// ended the term is told of it, to set it aside, before its beginning is folded as after.
func TestSegmentBehindTheEndOfItsTerm(t *testing.T) {
	s := newMemStore()
	w, all := fill(t, s, journal.Pos{}, 0, 3)
	late, _ := fill(t, s, w.Position(), 1, 2)
	for _, from := range []journal.Pos{{}, all[0].at.Pos, w.Position()} {
		r := replayOf(s)
		r.From, r.Ended = from, endsAt(w.Position().Number)
		_, res := run(t, r)
		if res.End != w.Position() || len(res.Foreign) != 1 || res.Foreign[0].Name != late.Segment() || !res.Foreign[0].Batches {
			t.Fatalf("from %d: %+v", from.Number, res)
		}
	}
}

// What a term's batches from after its end call durable was given up when it was ended: that it is missing is no damage.
func TestNothingIsHeardFromBehindTheEnd(t *testing.T) {
	ctx := context.Background()
	s := newMemStore()
	w, all := fill(t, s, journal.Pos{}, 0, 3)
	if err := w.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	torn := w.Segment()
	mustAppend(t, w, batch(4, 1))
	if err := w.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	b := batch(5, 1)
	b.Durable = w.Position().Number
	mustAppend(t, w, b)
	s.objects[torn].data = s.objects[torn].data[:100]
	end := all[2].at.Pos.Number + 1 // with the announcement
	for _, ended := range []bool{false, true} {
		r := replayOf(s)
		if ended {
			r.Ended = endsAt(end)
		}
		_, res := run(t, r)
		if damage := res.Break != nil && res.Break.Damage; damage == ended || res.End.Number != end {
			t.Fatalf("ended %v: %+v, %+v", ended, res, res.Break)
		}
	}
}
