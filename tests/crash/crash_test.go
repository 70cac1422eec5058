// Package crash tests promise 3: what is there after a kill -9 or a loss of power. Workloads run on a vault in a file
// system that records every operation; from the record come the states that crashes could leave, each of which is
// opened and compared with the history of the workload.
//
// A failure names its seed: the same seed makes the same workload and the same states, but for the order of syncs that
// run at the same time.
package crash

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/remote/dir/memfs"
	"envfs/tests/seed"
)

var (
	seedFlag   = flag.Uint64("crash.seed", 0, "seed of workloads and crashes; 0: another one each time")
	statesFlag = flag.Int("crash.states", 1200, "how many crash states to build, over all workloads")
	shareFlag  = flag.Int("crash.batch", 40, "how many states to build of one run of a workload")
)

func newSeed(t *testing.T) uint64 {
	t.Helper()
	return seed.Of(t, "crash.seed", *seedFlag)
}

type workload struct {
	name   string
	size   int
	limits fs.Limits
	run    func(s *session, size int) error
}

var small = fs.Limits{Extent: 8, Dirty: 128 << 10, Grace: 24 * time.Hour, Renew: 20}

var workloads = []workload{
	{"model", 150, small, workModel},
	{"git", 60, small, workGit},
	{"sqlite", 25, small, workSQLite},
	{"small", 120, small, workSmall},
}

func TestCrash(t *testing.T) {
	seed := newSeed(t)
	var states atomic.Int64
	for i, w := range workloads {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for run, done := uint64(0), 0; done < *statesFlag/len(workloads); run++ {
				n, err := w.crash(t.Context(), seed, uint64(i)<<32|run, *shareFlag)
				done += n
				states.Add(int64(n))
				if err != nil {
					t.Fatalf("seed: -crash.seed=%d run %d: %v", seed, run, err)
				}
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d states", states.Load()) })
}

// crash runs the workload once and checks n states of it, and those that follow from them.
func (w *workload) crash(ctx context.Context, seed, run uint64, n int) (states int, err error) {
	s, err := w.record(ctx, seed, run)
	if err != nil {
		return 0, fmt.Errorf("workload: %w", err)
	}
	v := &verifier{opener: s.opener, limits: w.limits, hist: &s.hist, failed: s.failed, log: s.stage.Log(), seed: source(seed, run).Uint64(), clock: s.clock, goOn: (*session).goOn}
	defer s.opener.close()
	rng := rand.New(source(seed, run, 4))
	for i := range n {
		depth := 0
		if i%4 == 0 {
			depth = 1
		}
		p := v.point(rng)
		if i == 0 {
			p = v.log.Len()
		}
		if err := v.crashAt(ctx, p, drawMode(rng), uint64(i), depth); err != nil {
			return v.states, err
		}
	}
	return v.states, nil
}

// record runs the workload, if there is one, on a new vault.
func (w *workload) record(ctx context.Context, seed, run uint64) (*session, error) {
	c := newClock()
	made := memfs.New()
	if err := initVault(ctx, made, seeded(seed, run, 2), c); err != nil {
		return nil, err
	}
	s, err := newSession(ctx, new(opener), made.Log().State(nil, made.Log().Len(), memfs.ModePrefix), emptyTree(c), c, w.limits, seed, run, 3)
	if err != nil {
		return nil, err
	}
	if w.run == nil {
		return s, nil
	}
	return s, w.run(s, w.size)
}

// emptyTree is what a new vault holds.
func emptyTree(c *clock) *tree {
	t := &tree{names: map[string]int{"": 0}, inodes: make(map[int]*inode), slots: slotLabel(0)}
	t.inodes[0] = (&inode{typ: blockcrypt.TypeDirectory, mode: 0o700, mtime: c.Now().UnixNano()}).seal()
	return t.seal()
}
