package fs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
	"envfs/remote/dir/memfs"
)

// lines is how many lines a record has in these tests, so that runs have many parts.
const lines = 16

// records returns the fold records that root names, the newest first.
func (r *rig) records() (recs []*blockcrypt.FoldRecord) {
	r.t.Helper()
	for _, ref := range append([]blockcrypt.ObjRef{r.fs.root.Fold}, r.fs.runs...) {
		rec, err := r.fs.loadFold(r.t.Context(), ref)
		must(r.t, err)
		recs = append(recs, rec)
	}
	return recs
}

// waiting returns the names that wait for the end of their grace.
func (r *rig) waiting() (names []string) {
	for _, p := range r.fs.grave.plots {
		names = append(names, p.names...)
	}
	slices.Sort(names)
	return names
}

// churn changes some of many files, and folds.
func (r *rig) churn(round int) {
	r.t.Helper()
	for i := range 12 {
		r.write(fmt.Sprint("f", (round*5+i)%40), pattern(500+round, byte(i)))
	}
	if round%3 == 0 {
		must(r.t, r.fs.Unlink(r.t.Context(), r.fs.Root(), fmt.Sprint("f", round*5%40)))
	}
	must(r.t, r.fs.Fold(r.t.Context()))
}

// However much a fold writes, its records are merged: nothing is lost or counted twice, each stays small, and there are
// few of them.
func TestRecordsInPartsAreMerged(t *testing.T) {
	r, clock := aging(t)
	r.fs.limits.recordLines = lines
	most := 0
	const rounds = 520
	for round := range rounds {
		clock.now = clock.now.Add(time.Duration(round%7) * time.Hour)
		r.churn(round)
		if round%20 != 19 {
			continue
		}
		r.audit()
		before := r.waiting()
		if round%40 == 19 {
			r.close()
			r.open()
		} else {
			r.abandon()
			r.open()
		}
		r.fs.limits.recordLines = lines
		now := r.waiting() // also what was deleted since root was written
		for _, name := range before {
			if _, found := slices.BinarySearch(now, name); !found {
				t.Fatalf("round %d: %s does not wait for the end of its grace after opening again", round, name)
			}
		}
		r.audit()
		runs := make(map[uint64]int)
		all := 0
		for _, rec := range r.records() {
			n := len(rec.Born) + len(rec.Dead)
			if n > lines {
				t.Fatalf("round %d: a record of %d lines", round, n)
			}
			runs[rec.Seq]++
			all += n
		}
		if len(runs) > 7*3+1 {
			t.Fatalf("round %d: %d runs", round, len(runs))
		}
		if most = max(most, all); round == rounds-1 && all > 1200 { // 512 folds in one run
			t.Errorf("%d lines in all records at the end", all)
		}
	}
	if most > 4500 { // some 50 of each fold, of which the newest in every run could not be forgotten yet
		t.Errorf("%d lines in all records", most)
	}
}

// stray names the fold records on the store that root does not name, and that are not superseded either.
func (r *rig) stray() (names []string) {
	r.t.Helper()
	named, err := r.fs.named(r.t.Context())
	must(r.t, err)
	must(r.t, r.fs.store.List(r.t.Context(), "folds/", func(i remote.Info) error {
		if !named[i.Name] {
			names = append(names, i.Name)
		}
		return nil
	}))
	return names
}

// A power loss between the parts of a fold, or of a merge, leaves nothing that a later one takes for its own, and nothing
// that is not swept.
func TestPowerLossBetweenParts(t *testing.T) {
	r, _ := aging(t)
	r.fs.limits.recordLines = lines
	for round := range 7 {
		r.churn(round)
	}
	before := r.mem.Log().Len()
	r.churn(7) // merges
	if n := len(r.records()); n < 8 {
		t.Fatalf("%d records", n)
	}
	log := r.mem.Log()
	for at := before; at <= log.Len(); at++ {
		if at < log.Len() {
			if op := log.Op(at); op.Kind != memfs.OpCreate || !isFold(op.Path) {
				continue
			}
		}
		for i, mode := range []memfs.Mode{memfs.ModePrefix, memfs.ModeRandom, memfs.ModeTorn} {
			m := log.State(rand.New(rand.NewPCG(uint64(at-before), uint64(i))), at, mode)
			c := &rig{t: t, path: r.path, key: r.key, opts: r.opts, mem: m}
			c.open()
			c.fs.limits.recordLines = lines
			c.audit()
			c.churn(8)
			_, left, err := c.fs.Sweep(t.Context())
			must(t, err)
			if stray := c.stray(); left > 0 || stray != nil {
				t.Fatalf("power loss after operation %d, state %d: %d objects are left; records %q", at-before, i, left, stray)
			}
			c.audit()
			c.close()
		}
	}
}

// A fold for whose merge of records there is no space goes through without it.
func TestNoSpaceToMerge(t *testing.T) {
	r, _ := aging(t)
	r.fs.limits.recordLines = lines
	for round := range 7 {
		r.churn(round)
	}
	number := r.fs.nextFold
	for fails := 1; fails < 8; fails += 3 {
		left := fails
		r.mem.Fail(func(op memfs.Op) error {
			if op.Kind != memfs.OpCreate {
				return nil
			}
			if n, err := blockcrypt.ParseName(op.Path); err == nil && n.Kind == blockcrypt.KindFold && n.Seq < number {
				if left--; left == 0 {
					return syscall.ENOSPC
				}
			}
			return nil
		})
		r.churn(fails)
		r.mem.Fail(nil)
		if left > 0 {
			t.Fatalf("%d records of the merge were made", fails-left)
		}
		if stray := r.stray(); stray != nil {
			t.Fatalf("the merge leaves %q", stray)
		}
		r.audit()
		number = r.fs.nextFold
	}
	r.churn(1)
	runs, err := groupRuns(append([]blockcrypt.ObjRef{r.fs.root.Fold}, r.fs.runs...))
	must(t, err)
	if len(runs) > 8 {
		t.Errorf("%d runs once there is space again", len(runs))
	}
	r.audit()
}
