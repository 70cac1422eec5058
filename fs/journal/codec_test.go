package journal

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"envfs/blockcrypt"
)

func sampleBatch() *Batch {
	e := &blockcrypt.Entry{Name: "\xffname", Type: blockcrypt.TypeSymlink, ID: blockcrypt.ID{1}, Link: "../to"}
	id := blockcrypt.ID{2, 3}
	return &Batch{
		Durable:  77,
		Contents: [][]byte{{1}, make([]byte, blockcrypt.BlockSize)},
		Deltas: []Delta{
			{Kind: SetEntry, ID: id, Entry: e},
			{Kind: DelEntry, ID: id, Name: "x"},
			{Kind: Where, ID: id, Parent: blockcrypt.ID{9}, Name: "\x01\xfe"},
			{Kind: SetKeys, ID: id, Keys: []blockcrypt.WrappedDEK{{Number: 1, Epoch: 200, Commit: [32]byte{4}, Wrap: make([]byte, 60)}}},
			{Kind: SetKeys, ID: id},
			{Kind: SetRuns, ID: id, Runs: []blockcrypt.Run{
				{Start: 1, Count: 1 << 51},
				{Start: 5, Count: 500, Kind: blockcrypt.RunExtent, Extent: 3, Slot: 70000},
				{Start: 1<<52 - 1, Count: 1, Kind: blockcrypt.RunJournal, Slot: 1},
			}},
			{Kind: SetExtent, ID: id, Extent: &blockcrypt.ExtentInfo{
				Number: 4, Ver: blockcrypt.Version{Birth: 900, R: blockcrypt.R{5}}, Extra: blockcrypt.Extra{6}, Generation: [16]byte{7},
				DEK: 1, Slots: 1024, Live: 1000, CRC32C: 0xdeadbeef, Length: 1 << 40,
			}},
			{Kind: Drop, ID: id, Entry: e},
		},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	b := sampleBatch()
	enc, err := appendBatch(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	var r record
	for range 2 { // the second time it reuses what it has
		if err := r.decode(enc); err != nil {
			t.Fatal(err)
		}
		if r.kind != recordBatch || r.durable != 77 || !slices.Equal(r.lengths, []int{1, blockcrypt.BlockSize}) || !reflect.DeepEqual(r.deltas, b.Deltas) {
			t.Fatalf("decoded %+v", r)
		}
	}
	for n := range enc {
		if err := r.decode(enc[:n]); err == nil && !isPrefixOfDeltas(b, n, enc) {
			t.Fatalf("%d bytes of %d decode", n, len(enc))
		}
	}
	pos := Pos{1 << 40, blockcrypt.Hash{1, 2}}
	if err := r.decode(appendStart(nil, 5, pos)); err != nil || r.kind != recordStart || r.continues != pos || r.durable != 5 {
		t.Fatalf("start %+v, %v", r, err)
	}
	name := blockcrypt.Name{Kind: blockcrypt.KindSegment, Term: 1, Seq: 2}.String()
	if err := r.decode(appendAnnounce(nil, 5, name)); err != nil || r.kind != recordAnnounce || r.next != name {
		t.Fatalf("announce %+v, %v", r, err)
	}
	if err := r.decode(appendAnnounce(nil, 5, "journal/../../x")); err == nil {
		t.Fatal("announcement of a name that is none")
	}
}

// isPrefixOfDeltas reports whether the first n bytes of enc are a batch of its first few deltas: nothing but the seal
// says how many there are.
func isPrefixOfDeltas(b *Batch, n int, enc []byte) bool {
	for i := range b.Deltas {
		short, err := appendBatch(nil, &Batch{Deltas: b.Deltas[:i], Contents: b.Contents, Durable: b.Durable})
		if err == nil && len(short) == n && bytes.HasPrefix(enc, short) {
			return true
		}
	}
	return false
}

func TestBoxes(t *testing.T) {
	enc, err := appendBatch(nil, &Batch{})
	if err != nil {
		t.Fatal(err)
	}
	// format, kind, durable, count of boxes, domain
	for at, why := range map[int]string{0: "format", 1: "kind", 3: "count of boxes", 4: "domain", 19: "domain"} {
		bad := bytes.Clone(enc)
		bad[at] += 7
		if err := new(record).decode(bad); err == nil {
			t.Errorf("another %s is accepted", why)
		}
	}
}

// FuzzRecord: whatever decodes is encoded the same way again.
func FuzzRecord(f *testing.F) {
	enc, err := appendBatch(nil, sampleBatch())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc)
	for i, d := range sampleBatch().Deltas {
		enc, err := appendBatch(nil, &Batch{Deltas: []Delta{d}, Contents: sampleBatch().Contents, Durable: uint64(i)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	f.Add(appendStart(nil, 1, Pos{Number: 300}))
	f.Add(appendAnnounce(nil, 1, blockcrypt.Name{Kind: blockcrypt.KindSegment, Term: 1, Seq: 2}.String()))
	f.Fuzz(func(t *testing.T, p []byte) {
		var r record
		if r.decode(p) != nil {
			return
		}
		var again []byte
		switch r.kind {
		case recordStart:
			again = appendStart(nil, r.durable, r.continues)
		case recordAnnounce:
			again = appendAnnounce(nil, r.durable, r.next)
		case recordBatch:
			b := &Batch{Deltas: r.deltas, Durable: r.durable}
			for _, n := range r.lengths {
				b.Contents = append(b.Contents, make([]byte, n))
			}
			var err error
			if again, err = appendBatch(nil, b); err != nil {
				t.Fatalf("decoded, but: %v", err)
			}
		}
		if !bytes.Equal(again, p) {
			t.Fatalf("%x\nis encoded as\n%x", p, again)
		}
	})
}
