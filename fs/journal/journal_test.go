package journal_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

func TestAppendAndReplay(t *testing.T) {
	ctx := context.Background()
	s := newMemStore()
	cfg := config(s)
	cfg.MaxSegment = 20 << 10
	w := journal.NewWriter(cfg, journal.Pos{}, 0)
	if len(s.objects) != 0 || w.Segment() != "" {
		t.Fatal("NewWriter made something")
	}
	var want []done
	for n := range 100 {
		b := batch(n, n%4)
		b.Durable = w.Durable().Number
		want = append(want, mustAppend(t, w, b))
		switch n % 10 {
		case 3:
			if err := w.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			if w.Durable() != w.Position() || w.Position() != want[n].at.Pos {
				t.Fatalf("durable %v, position %v", w.Durable(), w.Position())
			}
		case 7:
			for range 2 {
				if err := w.Rotate(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	got, res := run(t, replayOf(s))
	if len(got) != len(want) {
		t.Fatalf("%d batches of %d: %+v", len(got), len(want), res.Break)
	}
	checkPrefix(t, got, want)
	if res.Break != nil || res.Foreign != nil || res.Folded != nil || res.Empty != nil {
		t.Fatalf("result %+v", res)
	}
	if res.End != w.Position() || res.Durable != want[99].b.Durable || res.NextSeq[3] != w.NextSeq() || len(res.NextSeq) != 1 {
		t.Fatalf("result %+v", res)
	}
	refs := w.Segments()
	if len(refs) != len(res.Live) || len(refs) < 12 || len(refs) != len(s.objects) {
		t.Fatalf("%d live segments, %d written, %d objects", len(res.Live), len(refs), len(s.objects))
	}
	var total int64
	for i, ref := range refs {
		if ref != res.Live[i] || int(ref.Length) != len(s.objects[ref.Name].data) {
			t.Fatalf("segment %d: %+v, live %+v, %d bytes", i, ref, res.Live[i], len(s.objects[ref.Name].data))
		}
		total += int64(ref.Length)
	}
	if w.Bytes() != total {
		t.Fatalf("Bytes %d, want %d", w.Bytes(), total)
	}
	checkContents(t, s, want)
	checkCuts(t, s, want, res)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(ctx, batch(1, 0)); !errors.Is(err, journal.ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
}

// checkContents reads every content back from where it lies.
func checkContents(t *testing.T, s *memStore, all []done) {
	r := journal.NewReader(s, testVault, testKeys)
	ctx := context.Background()
	for _, d := range all {
		for i, ref := range d.at.Contents {
			got, err := r.Content(ctx, d.at.Segment, ref, nil)
			if err != nil || !bytes.Equal(got, d.b.Contents[i]) {
				t.Fatalf("content %d of batch %d: %d bytes, %v", i, d.at.Pos.Number, len(got), err)
			}
			ref.Index++
			if _, err := r.Content(ctx, d.at.Segment, ref, nil); !errors.Is(err, blockcrypt.ErrDamaged) {
				t.Fatalf("content under another index: %v", err)
			}
		}
	}
}

// checkCuts replays from every batch.
func checkCuts(t *testing.T, s *memStore, all []done, whole *journal.Result) {
	for i, d := range all {
		r := replayOf(s)
		r.From = d.at.Pos
		got, res := run(t, r)
		if len(got) != len(all)-i-1 || res.End != whole.End || res.Break != nil || res.Foreign != nil {
			t.Fatalf("from batch %d: %d batches, %+v", d.at.Pos.Number, len(got), res)
		}
		checkPrefix(t, got, all[i+1:])
		if len(res.Folded)+len(res.Live) != len(whole.Live) {
			t.Fatalf("from batch %d: %d folded, %d live", d.at.Pos.Number, len(res.Folded), len(res.Live))
		}
	}
}

func TestSealLimit(t *testing.T) {
	s := newMemStore()
	cfg := config(s)
	cfg.MaxSeals = 10
	w := journal.NewWriter(cfg, journal.Pos{}, 5)
	for n := range 30 {
		mustAppend(t, w, batch(n, 2))
	}
	// A segment has a start record (1), two batches (3 each) and an announcement (1); a third would make it 11.
	if got := len(w.Segments()); got != 15 {
		t.Fatalf("%d segments", got)
	}
	got, res := run(t, replayOf(s))
	if len(got) != 30 || res.NextSeq[3] != 20 {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
}

func TestDrop(t *testing.T) {
	ctx := context.Background()
	w := journal.NewWriter(config(newMemStore()), journal.Pos{}, 0)
	mustAppend(t, w, batch(0, 0))
	first := w.Segment()
	if err := w.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	cut := w.Position()
	if got := w.Drop(cut.Number - 1); got != nil {
		t.Fatalf("dropped %q", got)
	}
	if got := w.Drop(cut.Number); len(got) != 1 || got[0] != first || w.Bytes() != 0 {
		t.Fatalf("dropped %q, %d bytes left", got, w.Bytes())
	}
	mustAppend(t, w, batch(1, 0))
	if got := w.Drop(1000); got != nil {
		t.Fatalf("dropped the present segment: %q", got)
	}
}

func TestRefusedBatches(t *testing.T) {
	w := journal.NewWriter(config(newMemStore()), journal.Pos{}, 0)
	for name, b := range map[string]*journal.Batch{
		"kind":           {Deltas: []journal.Delta{{}}},
		"no entry":       {Deltas: []journal.Delta{{Kind: journal.SetEntry}}},
		"no extent":      {Deltas: []journal.Delta{{Kind: journal.SetExtent}}},
		"name":           {Deltas: []journal.Delta{{Kind: journal.DelEntry, Name: "a/b"}}},
		"empty run":      {Deltas: []journal.Delta{{Kind: journal.SetRuns, Runs: []blockcrypt.Run{{}}}}},
		"header run":     {Deltas: []journal.Delta{{Kind: journal.SetRuns, Runs: []blockcrypt.Run{{Count: 1, Kind: blockcrypt.RunHeader}}}}},
		"content run":    {Deltas: []journal.Delta{{Kind: journal.SetRuns, Runs: []blockcrypt.Run{{Count: 1, Kind: blockcrypt.RunJournal}}}}},
		"empty content":  {Contents: [][]byte{{}}},
		"large content":  {Contents: [][]byte{make([]byte, blockcrypt.BlockSize+1)}},
		"future durable": {Durable: 1},
	} {
		if _, err := w.Append(context.Background(), b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if got := w.Position(); got != (journal.Pos{}) {
		t.Fatalf("position %v", got)
	}
	mustAppend(t, w, batch(0, 1)) // none of these stick
}

func TestErrorsStick(t *testing.T) {
	ctx := context.Background()
	eio := errors.New("input/output error")
	for _, op := range []string{"append", "sync", "syncnames"} {
		s := newMemStore()
		w := journal.NewWriter(config(s), journal.Pos{}, 0)
		var want []done
		for n := range 3 {
			want = append(want, mustAppend(t, w, batch(n, 1)))
		}
		s.fail = func(o, _ string) error {
			if o == op {
				return eio
			}
			return nil
		}
		var err error
		switch op {
		case "append":
			_, err = w.Append(ctx, batch(3, 1))
		case "sync":
			err = w.Sync(ctx)
		case "syncnames":
			err = w.Rotate(ctx)
		}
		if !errors.Is(err, eio) {
			t.Fatalf("%s: %v", op, err)
		}
		s.fail = nil
		if _, err := w.Append(ctx, batch(4, 1)); !errors.Is(err, eio) {
			t.Errorf("append after failed %s: %v", op, err)
		}
		if err := w.Sync(ctx); !errors.Is(err, eio) {
			t.Errorf("sync after failed %s: %v", op, err)
		}
		if err := w.Rotate(ctx); !errors.Is(err, eio) {
			t.Errorf("rotate after failed %s: %v", op, err)
		}
		if got := w.Durable(); got != (journal.Pos{}) {
			t.Errorf("durable after failed %s: %v", op, got)
		}
		got, _ := run(t, replayOf(s))
		if len(got) != len(want) {
			t.Errorf("%d batches after failed %s", len(got), op)
		}
		checkPrefix(t, got, want)
	}
}

func TestFailedCreateDoesNotStick(t *testing.T) {
	s := newMemStore()
	s.fail = func(op, _ string) error {
		if op == "create" {
			return errors.New("no space")
		}
		return nil
	}
	w := journal.NewWriter(config(s), journal.Pos{}, 0)
	if _, err := w.Append(context.Background(), batch(0, 0)); err == nil {
		t.Fatal("no error")
	}
	s.fail = nil
	mustAppend(t, w, batch(0, 0))
}

func TestConcurrentSync(t *testing.T) {
	ctx := context.Background()
	s := newMemStore()
	cfg := config(s)
	cfg.MaxSegment = 8 << 10
	w := journal.NewWriter(cfg, journal.Pos{}, 0)
	mustAppend(t, w, batch(0, 1))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				before := w.Position()
				if err := w.Sync(ctx); err != nil {
					t.Error(err)
				}
				if w.Durable().Number < before.Number {
					t.Errorf("durable %d after a sync at %d", w.Durable().Number, before.Number)
				}
				w.Segments()
				w.Bytes()
				w.Segment()
			}
		})
	}
	for n := range 200 {
		mustAppend(t, w, batch(n+1, 1))
	}
	wg.Wait()
	if got, _ := run(t, replayOf(s)); len(got) != 201 {
		t.Fatalf("%d batches", len(got))
	}
}

// TestAppendDuringSync: what is appended while a sync is under way is not durable by it.
func TestAppendDuringSync(t *testing.T) {
	s := newMemStore()
	w := journal.NewWriter(config(s), journal.Pos{}, 0)
	before := mustAppend(t, w, batch(0, 1))
	s.syncing = func() { mustAppend(t, w, batch(1, 1)) }
	if err := w.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := w.Durable(); got != before.at.Pos {
		t.Fatalf("durable %d, appended before the sync %d", got.Number, before.at.Pos.Number)
	}
	s.syncing = nil
	if err := w.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := w.Durable(); got != w.Position() {
		t.Fatalf("durable %d of %d", got.Number, w.Position().Number)
	}
}

func TestReplayErrors(t *testing.T) {
	s := newMemStore()
	w := journal.NewWriter(config(s), journal.Pos{}, 0)
	for n := range 3 {
		mustAppend(t, w, batch(n, 0))
	}
	stop := errors.New("stop")
	_, err := replayOf(s).Run(context.Background(), func(journal.Appended, *journal.Batch) error { return stop })
	if err != stop {
		t.Fatalf("error of fn: %v", err)
	}
	reads := 0
	for at := 0; ; at++ {
		reads = 0
		s.fail = func(op, _ string) error {
			if reads++; reads > at {
				return stop
			}
			return nil
		}
		got, res, err := tryRun(replayOf(s))
		if err == nil {
			if len(got) != 3 {
				t.Fatalf("%d batches", len(got))
			}
			break
		}
		if !errors.Is(err, stop) || res != nil {
			t.Fatalf("operation %d failed: %v, %+v", at, err, res)
		}
	}
}
