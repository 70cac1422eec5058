package journal_test

import (
	"context"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs/journal"
	"envfs/remote"
)

// sink is a store that forgets what it is given.
type sink struct{ *memStore }

type sinkFile struct{ remote.File }

func (sink) Create(context.Context, string) (remote.File, error) { return sinkFile{}, nil }

func (sinkFile) Append([]byte) error { return nil }
func (sinkFile) Sync() error         { return nil }
func (sinkFile) Close() error        { return nil }

// small is a batch of one create: about 200 bytes.
func small() *journal.Batch {
	return &journal.Batch{Deltas: []journal.Delta{{Kind: journal.SetEntry, ID: blockcrypt.ID{7}, Entry: entry("some name")}}}
}

func BenchmarkAppend(b *testing.B) {
	cfg := config(nil)
	cfg.Store = sink{newMemStore()}
	w := journal.NewWriter(cfg, journal.Pos{}, 0)
	batch := small()
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Append(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	s := newMemStore()
	w := journal.NewWriter(config(s), journal.Pos{}, 0)
	const n = 20000
	for range n {
		if _, err := w.Append(context.Background(), small()); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(w.Bytes())
	b.ReportAllocs()
	for b.Loop() {
		got := 0
		_, err := replayOf(s).Run(context.Background(), func(journal.Appended, *journal.Batch) error { got++; return nil })
		if err != nil || got != n {
			b.Fatal(got, err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "batches/s")
}

func BenchmarkContent(b *testing.B) {
	s := newMemStore()
	w := journal.NewWriter(config(s), journal.Pos{}, 0)
	at, err := w.Append(context.Background(), &journal.Batch{Contents: [][]byte{make([]byte, blockcrypt.BlockSize)}})
	if err != nil {
		b.Fatal(err)
	}
	r := journal.NewReader(s, testVault, testKeys)
	var dst []byte
	b.SetBytes(blockcrypt.BlockSize)
	b.ReportAllocs()
	for b.Loop() {
		if dst, err = r.Content(context.Background(), at.Segment, at.Contents[0], dst[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
