package crash

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"envfs/fs"
	"envfs/remote/dir/memfs"
)

// TestBucketKeys ends a script of changes of keys, rewraps and sealing anew, on a vault in a bucket, at requests that change
// the bucket, in an order of the seed's: the same follows as in TestBucket.
func TestBucketKeys(t *testing.T) {
	seed := shortSeed(t)
	temp := t.TempDir()
	must(t, noCache(temp))
	v, err := newVoyage(t.Context(), temp, seed, 1)
	must(t, err)
	defer func() { must(t, v.close()) }()
	v.limits = fewFiles
	must(t, v.changesKeys())
	began := time.Now()
	ends := v.order(seed)
	var next atomic.Int64
	var g errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		j := newJudge(v, source(seed, 6).Uint64())
		g.Go(func() error {
			for time.Since(began) < *bucketFlag {
				i := int(next.Add(1)) - 1
				if i >= len(ends) {
					break
				}
				if err := j.crashAt(ends[i]+1, uint64(ends[i])); err != nil {
					return fmt.Errorf("seed: -crash.seed=%d: %w", seed, err)
				}
			}
			return nil
		})
	}
	must(t, g.Wait())
	t.Logf("%d of %d ends", min(int(next.Load()), len(ends)), len(ends))
}

// changesKeys has one machine work through the script, and another take over.
func (v *voyage) changesKeys() error {
	a := v.machine(0, memfs.New(), emptyTree(v.clock))
	v.machines, v.now = append(v.machines, a), a
	if err := a.open(fs.Options{}); err != nil {
		return err
	}
	if err := a.keysTree(); err != nil {
		return err
	}
	for i, do := range append([]func() error{a.publish}, a.keysScript()...) {
		if err := do(); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
		if v.rng.IntN(2) == 0 {
			if err := a.publish(); err != nil {
				return err
			}
		}
	}
	return v.reign(5)
}
