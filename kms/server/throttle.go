package server

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// logEvery is how often refusals of one source are logged; between, they are counted.
	logEvery = time.Second
	// maxBuckets is how many sources are remembered before those that are at rest are forgotten.
	maxBuckets = 10_000
)

// throttle lets each of many sources do something at a rate. It is safe for concurrent use.
type throttle struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[string]*bucket
}

// bucket is one source.
type bucket struct {
	limiter *rate.Limiter
	refused int       // since something was logged
	logged  time.Time // when that was
}

// verdict says whether a source may, and if not whether that is to be logged, and how many refusals before were not.
type verdict struct {
	ok, log bool
	count   int
}

// newThrottle returns a throttle; perSecond 0 means no limit.
func newThrottle(perSecond, burst int) *throttle {
	t := &throttle{limit: rate.Limit(perSecond), burst: burst, buckets: map[string]*bucket{}}
	if perSecond == 0 {
		t.limit = rate.Inf
	}
	return t
}

// take asks for a source at a time.
func (t *throttle) take(source string, now time.Time) verdict {
	if t.limit == rate.Inf {
		return verdict{ok: true}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.buckets[source]
	if !ok {
		if len(t.buckets) >= maxBuckets {
			t.forget(now)
		}
		b = &bucket{limiter: rate.NewLimiter(t.limit, t.burst)}
		t.buckets[source] = b
	}
	if b.limiter.AllowN(now, 1) {
		return verdict{ok: true}
	}
	if now.Sub(b.logged) < logEvery {
		b.refused++
		return verdict{}
	}
	return verdict{log: true, count: b.report(now)}
}

// report returns how many refusals were not logged, which they are now.
func (b *bucket) report(now time.Time) int {
	n := b.refused
	b.refused, b.logged = 0, now
	return n
}

// forget drops the sources that have used nothing up and of which nothing is to be logged.
func (t *throttle) forget(now time.Time) {
	for source, b := range t.buckets {
		if b.refused == 0 && b.limiter.TokensAt(now) >= float64(t.burst) {
			delete(t.buckets, source)
		}
	}
}

// overdue calls f for each source of which refusals were counted, and not logged for that long.
func (t *throttle) overdue(now time.Time, wait time.Duration, f func(source string, count int)) {
	due := map[string]int{}
	t.mu.Lock()
	for source, b := range t.buckets {
		if b.refused > 0 && now.Sub(b.logged) >= wait {
			due[source] = b.report(now)
		}
	}
	t.mu.Unlock()
	for source, count := range due {
		f(source, count)
	}
}
