package crash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

var bucketFlag = flag.Duration("crash.bucket", 40*time.Second, "for how long vaults in a bucket are brought to their end")

// usualSeed is that of short runs of tests of many ends, which work through the same ones each time; those of make test-long
// are others.
const usualSeed = 20261126

// shortSeed returns the seed of such a test.
func shortSeed(t *testing.T) uint64 {
	if *seedFlag != 0 || *bucketFlag > time.Minute {
		return newSeed(t)
	}
	return usualSeed
}

// bucketActs is how much each machine does.
const bucketActs = 45

// TestBucket lets machines work on a vault in a bucket, one after another, and ends all of it at every request that changes
// the bucket: those under way are done or not. Whoever reads, follows, goes on, takes over or comes back then is right.
func TestBucket(t *testing.T) {
	seed := shortSeed(t)
	var ends, runs atomic.Int64
	temp := t.TempDir()
	if err := noCache(temp); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var g errgroup.Group
	for worker := range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for run := uint64(worker); time.Since(began) < *bucketFlag; run += uint64(runtime.GOMAXPROCS(0)) {
				n, err := bringToEnds(t.Context(), temp, began, seed, run)
				ends.Add(int64(n))
				if err != nil {
					return fmt.Errorf("seed: -crash.seed=%d run %d: %w", seed, run, err)
				}
				runs.Add(1)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d ends of %d runs", ends.Load(), runs.Load())
}

func bringToEnds(ctx context.Context, temp string, began time.Time, seed, run uint64) (ends int, err error) {
	v, err := newVoyage(ctx, temp, seed, run)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	for i := range 3 {
		if err := v.reign(bucketActs); err != nil {
			return 0, fmt.Errorf("machine %d at work: %w", i, err)
		}
	}
	j := newJudge(v, source(seed, run, 6).Uint64())
	for _, at := range v.order(seed, run) {
		if time.Since(began) > *bucketFlag && ends > 0 {
			break
		}
		if err := j.crashAt(at+1, uint64(at)); err != nil {
			return ends, err
		}
		ends++
	}
	return ends, nil
}

// order returns all events, in an order that the seeds give.
func (v *voyage) order(seeds ...uint64) []int {
	return rand.New(source(append(seeds, 7)...)).Perm(len(v.bucket.tape.events))
}
