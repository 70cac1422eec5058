package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs/journal"
	"envfs/remote"
)

// keyring is a KEKs whose keys follow from the epoch.
type keyring struct {
	vault  byte
	newest uint32
}

func (k keyring) KEK(epoch uint32) ([]byte, error) {
	if epoch == 0 || epoch > k.newest {
		return nil, errors.New("no such key epoch")
	}
	return bytes.Repeat([]byte{byte(epoch) ^ k.vault}, blockcrypt.KeySize), nil
}

func (k keyring) Newest() uint32 { return k.newest }

var (
	testVault = blockcrypt.Vault{Suite: blockcrypt.AES256GCM, ID: blockcrypt.ID{1, 2, 3}}
	testKeys  = keyring{vault: 0x40, newest: 1}
	testTag   = blockcrypt.Tag{9, 8, 7, 6, 5}
)

func config(s remote.Local) journal.Config {
	return journal.Config{Store: s, Vault: testVault, Keys: testKeys, Term: 3, Tag: testTag}
}

func replayOf(s remote.Store) *journal.Replay {
	return &journal.Replay{Store: s, Vault: testVault, Keys: testKeys, MinEpoch: 1}
}

// entry returns some entry of a regular file.
func entry(name string) *blockcrypt.Entry {
	return &blockcrypt.Entry{
		Name: name, Type: blockcrypt.TypeRegular, ID: blockcrypt.ID{4, 5},
		Attr: blockcrypt.Attr{Mode: 0o644, UID: 1000, GID: 1000, Nlink: 1, Size: 77, Mtime: blockcrypt.Time{Sec: 1e9, Nsec: 5}},
	}
}

// batch returns the n-th batch of a workload: its content tells its number.
func batch(n int, contents int) *journal.Batch {
	b := &journal.Batch{Deltas: []journal.Delta{
		{Kind: journal.SetEntry, ID: blockcrypt.ID{7}, Entry: entry(fmt.Sprint("file", n))},
		{Kind: journal.DelEntry, ID: blockcrypt.ID{7}, Name: fmt.Sprint("gone", n)},
	}}
	for i := range contents {
		b.Contents = append(b.Contents, bytes.Repeat([]byte{byte(n), byte(i)}, 1+(n*37+i)%2000))
		b.Deltas = append(b.Deltas, journal.Delta{Kind: journal.SetRuns, ID: blockcrypt.ID{4, 5}, Runs: []blockcrypt.Run{
			{Start: uint64(n + i), Count: 1, Kind: blockcrypt.RunJournal, Slot: uint32(i)},
		}})
	}
	return b
}

// done is a batch that was appended.
type done struct {
	at journal.Appended
	b  *journal.Batch
}

func mustAppend(t testing.TB, w *journal.Writer, b *journal.Batch) done {
	t.Helper()
	at, err := w.Append(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	return done{at, b}
}

// run replays and returns what came, deeply copied.
func run(t testing.TB, r *journal.Replay) ([]done, *journal.Result) {
	t.Helper()
	got, res, err := tryRun(r)
	if err != nil {
		t.Fatal(err)
	}
	return got, res
}

func tryRun(r *journal.Replay) (got []done, res *journal.Result, err error) {
	res, err = r.Run(context.Background(), func(at journal.Appended, b *journal.Batch) error {
		c := &journal.Batch{Deltas: slices.Clone(b.Deltas), Durable: b.Durable}
		for _, p := range b.Contents {
			c.Contents = append(c.Contents, bytes.Clone(p))
		}
		got = append(got, done{at, c})
		return nil
	})
	return got, res, err
}

// checkPrefix fails unless got is the beginning of want, content and place.
func checkPrefix(t testing.TB, got, want []done) {
	t.Helper()
	if len(got) > len(want) {
		t.Fatalf("replayed %d batches, %d were appended", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if g.at.Pos != w.at.Pos || g.at.Segment != w.at.Segment || !slices.Equal(g.at.Contents, w.at.Contents) {
			t.Fatalf("batch %d lies at %+v, want %+v", i, g.at, w.at)
		}
		if fmt.Sprint(flat(g.b)) != fmt.Sprint(flat(w.b)) || !slices.EqualFunc(g.b.Contents, w.b.Contents, bytes.Equal) {
			t.Fatalf("batch %d differs:\n%+v\n%+v", i, g.b, w.b)
		}
	}
}

func flat(b *journal.Batch) (s []string) {
	for _, d := range b.Deltas {
		e, x := d.Entry, d.Extent
		d.Entry, d.Extent = nil, nil
		s = append(s, fmt.Sprintf("%+v %+v %+v", d, e, x))
	}
	return append(s, fmt.Sprint(b.Durable))
}

func seeded(t testing.TB, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
