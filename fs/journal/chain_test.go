package journal_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// fill appends n batches to a new writer behind at.
func fill(t *testing.T, s *memStore, at journal.Pos, seq uint64, n int) (*journal.Writer, []done) {
	t.Helper()
	w := journal.NewWriter(config(s), at, seq)
	var all []done
	for i := range n {
		all = append(all, mustAppend(t, w, batch(i+int(at.Number), 1)))
	}
	return w, all
}

func TestForkAtTheEnd(t *testing.T) {
	s := newMemStore()
	w, all := fill(t, s, journal.Pos{}, 0, 3)
	fill(t, s, w.Position(), 1, 2)
	other, _ := fill(t, s, w.Position(), 2, 2)
	got, res := run(t, replayOf(s))
	checkPrefix(t, got[:3], all)
	if len(got) != 5 || len(res.Foreign) != 1 {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
	f := res.Foreign[0]
	if f.Name != other.Segment() || !f.Fork || !f.Authentic || f.Continues != w.Position() || !f.Batches || f.Tag != testTag {
		t.Fatalf("foreign %+v", f)
	}
}

func TestForkInTheMiddle(t *testing.T) {
	s := newMemStore()
	_, all := fill(t, s, journal.Pos{}, 0, 6)
	other, _ := fill(t, s, all[2].at.Pos, 1, 2)
	for cut := range 5 {
		r := replayOf(s)
		if cut > 0 {
			r.From = all[cut-1].at.Pos
		}
		got, res := run(t, r)
		checkPrefix(t, got, all[cut:])
		if len(got) != 6-cut || len(res.Foreign) != 1 || res.Foreign[0].Name != other.Segment() {
			t.Fatalf("cut %d: %d batches, %+v", cut, len(got), res)
		}
		if cut <= 3 && !res.Foreign[0].Fork {
			t.Fatalf("cut %d: %+v", cut, res.Foreign[0])
		}
	}
}

func TestAnotherVault(t *testing.T) {
	s := newMemStore()
	_, all := fill(t, s, journal.Pos{}, 0, 3)
	cfg := config(s)
	cfg.Keys = keyring{vault: 0x11, newest: 1}
	other := journal.NewWriter(cfg, all[2].at.Pos, 1)
	mustAppend(t, other, batch(9, 1))
	got, res := run(t, replayOf(s))
	checkPrefix(t, got, all)
	if len(got) != 3 || len(res.Foreign) != 1 || res.Foreign[0].Authentic || res.Foreign[0].Name != other.Segment() {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
}

func TestSwappedSegments(t *testing.T) {
	ctx := context.Background()
	s := newMemStore()
	w, all := fill(t, s, journal.Pos{}, 0, 3)
	if err := w.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	b := batch(3, 1)
	b.Durable = w.Durable().Number
	all = append(all, mustAppend(t, w, b))
	refs := w.Segments()
	s.objects[refs[0].Name], s.objects[refs[1].Name] = s.objects[refs[1].Name], s.objects[refs[0].Name]
	got, res := run(t, replayOf(s))
	checkPrefix(t, got, all)
	if len(got) != 0 || len(res.Foreign) != 2 {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
}

func TestMissingSegments(t *testing.T) {
	ctx := context.Background()
	build := func() (*memStore, []blockcrypt.SegmentRef, []done) {
		s := newMemStore()
		w := journal.NewWriter(config(s), journal.Pos{}, 0)
		var all []done
		for n := range 3 {
			b := batch(n, 0)
			b.Durable = w.Durable().Number
			all = append(all, mustAppend(t, w, b))
			if err := w.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			if err := w.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		return s, append(w.Segments(), blockcrypt.SegmentRef{Name: w.Segment()}), all
	}
	for lose := range 4 {
		s, refs, all := build()
		delete(s.objects, refs[lose].Name)
		got, res := run(t, replayOf(s))
		checkPrefix(t, got, all)
		if len(got) != lose && lose > 0 {
			t.Fatalf("without segment %d: %d batches", lose, len(got))
		}
		// Without the first nothing leads to the others but they are there; else an announcement is not kept.
		if lose == 0 {
			if len(res.Foreign) != 2 || !res.Foreign[0].Authentic {
				t.Fatalf("without the first: %+v", res)
			}
			continue
		}
		if res.Break == nil || !res.Break.Damage || res.Break.Segment != refs[lose].Name {
			t.Fatalf("without segment %d: %+v", lose, res.Break)
		}
	}
	// What root names must be there.
	s, refs, _ := build()
	delete(s.objects, refs[0].Name)
	r := replayOf(s)
	r.First, r.Last = refs[0], refs[0]
	if _, res := run(t, r); res.Break == nil || !res.Break.Damage {
		t.Fatalf("root's first segment is missing: %+v", res)
	}
	s, refs, _ = build()
	r.Store, r.First, r.Last = s, refs[0], refs[2]
	if got, res := run(t, r); len(got) != 3 || res.Break != nil {
		t.Fatalf("%d batches, %+v", len(got), res.Break)
	}
}

func TestContinueBehindABreak(t *testing.T) {
	s := newMemStore()
	w, all := fill(t, s, journal.Pos{}, 0, 5)
	o := s.objects[w.Segment()]
	o.data = o.data[:len(o.data)-100] // tears the last batch
	_, res := run(t, replayOf(s))
	if res.End != all[3].at.Pos || res.Break == nil || res.Break.Damage || res.Break.TailZero || res.Break.Segment != w.Segment() ||
		res.Break.Offset != int64(res.Live[0].Length) || res.Break.Offset+res.Break.Tail != int64(len(o.data)) {
		t.Fatalf("%+v, break %+v", res, res.Break)
	}
	_, more := fill(t, s, res.End, res.NextSeq[3], 2)
	want := append(all[:4:4], more...)
	got, res := run(t, replayOf(s))
	checkPrefix(t, got, want)
	if len(got) != 6 || res.Break != nil || res.Foreign != nil {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
}

func TestZeroTail(t *testing.T) {
	s := newMemStore()
	w, _ := fill(t, s, journal.Pos{}, 0, 2)
	o := s.objects[w.Segment()]
	o.data = append(o.data, make([]byte, 4000)...)
	got, res := run(t, replayOf(s))
	if len(got) != 2 || res.Break == nil || !res.Break.TailZero || res.Break.Damage || res.Break.Tail != 4000 {
		t.Fatalf("%d batches, %+v", len(got), res.Break)
	}
}

func TestMisnamed(t *testing.T) {
	s := newMemStore()
	w, _ := fill(t, s, journal.Pos{}, 0, 2)
	name := w.Segment() + ".sync-conflict-20260101"
	s.objects[name] = s.objects[w.Segment()]
	if got, res := run(t, replayOf(s)); len(got) != 2 || len(res.Foreign) != 1 || res.Foreign[0].Name != name {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
}

// TestRetiredEpoch changes the key epoch: what root names of the old one counts, nothing beyond.
func TestRetiredEpoch(t *testing.T) {
	ctx := context.Background()
	old := config(nil)
	s := newMemStore()
	old.Store = s
	w := journal.NewWriter(old, journal.Pos{}, 0)
	var all []done
	for n := range 4 {
		all = append(all, mustAppend(t, w, batch(n, 1)))
		if n == 1 {
			if err := w.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	refs := w.Segments()
	at, seq := w.Position(), w.NextSeq()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	keys := keyring{vault: 0x40, newest: 2}
	replay := func(s *memStore) *journal.Replay {
		return &journal.Replay{Store: s, Vault: testVault, Keys: keys, MinEpoch: 2, First: refs[0], Last: refs[1]}
	}
	// Who left goes on under the old epoch, behind the end and instead of it.
	forged := s.clone()
	old.Store = forged
	mustAppend(t, journal.NewWriter(old, at, seq+10), batch(50, 1))
	mustAppend(t, journal.NewWriter(old, all[0].at.Pos, seq+11), batch(51, 1))
	for i, st := range []*memStore{s, forged} {
		got, res := run(t, replay(st))
		checkPrefix(t, got, all)
		if len(got) != 4 || res.Break != nil || len(res.Foreign) != 2*i {
			t.Fatalf("%d: %d batches, %+v", i, len(got), res)
		}
		for _, f := range res.Foreign {
			if f.Authentic || f.Fork {
				t.Fatalf("foreign %+v", f)
			}
		}
	}
	// The new epoch goes on.
	next := config(forged)
	next.Keys = keys
	all = append(all, mustAppend(t, journal.NewWriter(next, at, seq), batch(4, 1)))
	got, res := run(t, replay(forged))
	checkPrefix(t, got, all)
	if len(got) != 5 || res.Break != nil {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
	// Without what root names, nothing of the old epoch counts.
	r := replay(s)
	r.First, r.Last = blockcrypt.SegmentRef{}, blockcrypt.SegmentRef{}
	if got, res := run(t, r); len(got) != 0 || res.End != (journal.Pos{}) {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
	// If the end is another one, nothing counts either, and that is damage.
	r = replay(s)
	r.Last.EndHash[0] ^= 1
	if got, res := run(t, r); len(got) != 0 || res.Break == nil || !res.Break.Damage {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
}

func TestBreakTellsWhy(t *testing.T) {
	s := newMemStore()
	w, all := fill(t, s, journal.Pos{}, 0, 3)
	s.objects[w.Segment()].data[int(all[1].at.Contents[0].Offset)+13] ^= 1
	got, res := run(t, replayOf(s))
	if len(got) != 1 || res.Break == nil || !strings.Contains(res.Break.Reason, "checksum") {
		t.Fatalf("%d batches, %+v", len(got), res.Break)
	}
}

// TestForgedContent alters a content and mends the checksums, which take no key.
func TestForgedContent(t *testing.T) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for n := range 3 {
		s := newMemStore()
		w, all := fill(t, s, journal.Pos{}, 0, 3)
		data := s.objects[w.Segment()].data
		ref := all[n].at.Contents[0]
		data[ref.Offset+20] ^= 1
		at := int(ref.Offset) / blockcrypt.BatchAlign * blockcrypt.BatchAlign
		f, err := blockcrypt.ParseFrame(data[at:])
		for ; err != nil; f, err = blockcrypt.ParseFrame(data[at:]) {
			at -= blockcrypt.BatchAlign
		}
		frame := data[at:]
		binary.BigEndian.PutUint32(frame[56:], crc32.Checksum(frame[blockcrypt.FrameSize:f.Length], table))
		binary.BigEndian.PutUint32(frame[60:], crc32.Checksum(frame[:60], table))
		got, res := run(t, replayOf(s))
		checkPrefix(t, got, all)
		if len(got) != n || res.Break == nil || res.Break.Offset != int64(at) {
			t.Fatalf("content of batch %d: %d batches, %+v", n, len(got), res.Break)
		}
	}
}

// TestForkBesideTheAnnounced: the announced segment is the chain's, whatever else continues the same position.
func TestForkBesideTheAnnounced(t *testing.T) {
	s := newMemStore()
	w, all := fill(t, s, journal.Pos{}, 10, 2)
	if err := w.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	at := w.Position()
	all = append(all, mustAppend(t, w, batch(2, 0)))
	for _, seq := range []uint64{3, 30} {
		fill(t, s, at, seq, 2)
	}
	got, res := run(t, replayOf(s))
	checkPrefix(t, got, all)
	if len(got) != 3 || len(res.Foreign) != 2 || !res.Foreign[0].Fork || !res.Foreign[1].Fork {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
}

// TestStartTellsDurable: when a whole segment is gone, the next one's start record tells that it was durable.
func TestStartTellsDurable(t *testing.T) {
	ctx := context.Background()
	s := newMemStore()
	w, _ := fill(t, s, journal.Pos{}, 0, 3)
	if err := w.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	b := batch(3, 0)
	b.Durable = w.Durable().Number
	mustAppend(t, w, b)
	first := s.objects[w.Segment()]
	if err := w.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, w, batch(4, 0)) // claims nothing itself
	first.data = nil
	got, res := run(t, replayOf(s))
	if len(got) != 0 || res.Break == nil || !res.Break.Damage || res.Durable != b.Durable {
		t.Fatalf("%d batches, %+v, %+v", len(got), res, res.Break)
	}
}

// TestAuthenticButWrong seals what no writer would.
func TestAuthenticButWrong(t *testing.T) {
	name := blockcrypt.Name{Kind: blockcrypt.KindSegment, Term: 3}.String()
	kek, err := testKeys.KEK(1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := testVault.NewSegmentCipher(kek, 1, name)
	if err != nil {
		t.Fatal(err)
	}
	start := append([]byte{0, 1, 0, 0}, make([]byte, 32)...)
	plain := append([]byte{0, 2, 0, 1}, make([]byte, 17)...)
	for what, metas := range map[string][2][]byte{
		"nothing":             {start, plain},
		"a durable batch":     {start, append([]byte{0, 2, 2, 1}, make([]byte, 17)...)},
		"a missing content":   {start, append(append([]byte{0, 2, 0, 1}, make([]byte, 16)...), 1, 0xd0, 0x0f)},
		"a second start":      {start, start},
		"another start":       {append([]byte{0, 1, 0, 1}, make([]byte, 32)...), plain},
		"no start":            {plain, plain},
		"a future format":     {start, append([]byte{1}, plain[1:]...)},
		"a box of a domain":   {start, append(append([]byte{0, 2, 0, 1}, bytes.Repeat([]byte{1}, 16)...), 0)},
		"a misnamed announce": {start, []byte{0, 3, 0, 1, 'x'}},
	} {
		s := newMemStore()
		data := testVault.AppendSegmentPrefix(nil, blockcrypt.SegmentPrefix{Epoch: 1, Term: 3, First: 1})
		var prev blockcrypt.Hash
		for i, meta := range metas {
			at := blockcrypt.BatchPos{Term: 3, Number: uint64(i + 1), Offset: uint64(len(data)), Prev: prev}
			if data, prev, _, err = c.SealBatch(data, rand.Reader, at, meta, nil); err != nil {
				t.Fatal(err)
			}
		}
		s.objects[name] = &memObject{data: data}
		got, res := run(t, replayOf(s))
		if ok := len(got) == 1 && res.Break == nil && res.Foreign == nil; ok != (what == "nothing") {
			t.Errorf("with %s wrong: %d batches, %+v, break %+v", what, len(got), res, res.Break)
		}
	}
}

func TestEmptySegments(t *testing.T) {
	s := newMemStore()
	w, _ := fill(t, s, journal.Pos{}, 0, 2)
	if err := w.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	empty := blockcrypt.Name{Kind: blockcrypt.KindSegment, Term: 3, Seq: 7}.String()
	s.objects[empty] = &memObject{data: make([]byte, 700)}
	got, res := run(t, replayOf(s))
	if len(got) != 2 || res.Break != nil || res.Foreign != nil || len(res.Empty) != 1 || res.Empty[0] != empty || res.NextSeq[3] != 8 {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
	// The announced one, if torn, is where the journal ends.
	s.objects[w.Segment()].data = []byte{0, 0, 1}
	got, res = run(t, replayOf(s))
	if len(got) != 2 || res.Break == nil || res.Break.Damage || res.Break.Segment != w.Segment() || res.Break.Tail != 3 || res.Foreign != nil {
		t.Fatalf("%d batches, %+v, %+v", len(got), res, res.Break)
	}
}

// TestRefusedByCaller: the journal ends before a batch that the caller refuses, and goes on behind it if root says so.
func TestRefusedByCaller(t *testing.T) {
	ctx := context.Background()
	s := newMemStore()
	w, all := fill(t, s, journal.Pos{}, 0, 4)
	refuse := func(r *journal.Replay, at journal.Pos) (n int, res *journal.Result) {
		res, err := r.Run(ctx, func(a journal.Appended, _ *journal.Batch) error {
			if a.Pos == at {
				return fmt.Errorf("%w: not whole", journal.ErrEnd)
			}
			n++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n, res
	}
	n, res := refuse(replayOf(s), all[2].at.Pos)
	if n != 2 || res.End != all[1].at.Pos || res.Break == nil || res.Break.Damage || res.Break.Offset != int64(res.Live[0].Length) {
		t.Fatalf("%d batches, %+v, %+v", n, res, res.Break)
	}
	// Not so if root names a position behind it.
	r := replayOf(s)
	r.First, r.Last = w.Segments()[0], w.Segments()[0]
	for _, d := range all[2:] {
		if n, res = refuse(r, d.at.Pos); res.Break == nil || !res.Break.Damage {
			t.Fatalf("%d batches, %+v, %+v", n, res, res.Break)
		}
	}
	if res, err := r.Run(ctx, nil); err != nil || res.Break != nil || res.End != w.Position() {
		t.Fatalf("%+v, %v", res, err)
	}
	// Whoever went on there has a term of his own, and root tells where the one before has ended.
	cfg := config(s)
	cfg.Term, cfg.Tag = 4, blockcrypt.Tag{4}
	want := append(all[:2:2], mustAppend(t, journal.NewWriter(cfg, all[1].at.Pos, 0), batch(9, 0)))
	r = replayOf(s)
	r.Ended = func(term uint64, tag blockcrypt.Tag) (uint64, bool) {
		return all[1].at.Pos.Number, term == 3 && tag == testTag
	}
	got, res := run(t, r)
	checkPrefix(t, got, want)
	if len(got) != 3 || res.Break != nil || res.Foreign != nil {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
}

// TestOurs: segments of terms that are not root's are not followed.
func TestOurs(t *testing.T) {
	s := newMemStore()
	w, _ := fill(t, s, journal.Pos{}, 0, 2)
	cfg := config(s)
	cfg.Term = 4
	other := journal.NewWriter(cfg, w.Position(), 0)
	mustAppend(t, other, batch(9, 0))
	r := replayOf(s)
	r.Ours = func(term uint64, tag blockcrypt.Tag) bool { return term == 3 && tag == testTag }
	got, res := run(t, r)
	if len(got) != 2 || res.End != w.Position() || len(res.Foreign) != 1 || res.Foreign[0].Name != other.Segment() || !res.Foreign[0].Authentic {
		t.Fatalf("%d batches, %+v", len(got), res)
	}
}
