package s3

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// Outage is a time in which the server does not answer, or answers that it cannot serve, or refuses who had been let in
// (see Store.Persist).
type Outage struct {
	Since time.Time // of the first request that failed
	Cause string    // in a few words: connection refused
	Hint  string    // what to do, if that can be told
}

// awayAfter is how long nothing but failures counts as a bad connection; then the server is away.
const awayAfter = time.Second

// reach knows whether the server answers.
type reach struct {
	onAway, onBack func(Outage)

	mu   sync.Mutex
	now  Outage // zero Since: the last request was answered
	away bool

	// writes: some write was refused. Then only a write that is not ends the outage, as reading may be allowed still.
	writes bool
}

// Outage returns since when and why the server has been away, if it is.
func (s *Store) Outage() (Outage, bool) {
	s.reach.mu.Lock()
	defer s.reach.mu.Unlock()
	return s.reach.now, s.reach.away
}

// failed notes that a request was not answered, or refused.
func (r *reach) failed(err error, writing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now.Since.IsZero() {
		r.now.Since = time.Now()
	}
	r.now.Cause, r.now.Hint = cause(err), ""
	if c, ok := errors.AsType[*ConfigError](err); ok {
		r.now.Hint = c.Hint
		r.writes = r.writes || writing
	}
	if !r.away && time.Since(r.now.Since) >= awayAfter {
		r.away = true
		if r.onAway != nil {
			r.onAway(r.now)
		}
	}
}

// answered notes that a request was answered.
func (r *reach) answered(writing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writes && !writing {
		return
	}
	r.writes = false
	if r.away && r.onBack != nil {
		r.onBack(r.now)
	}
	r.now, r.away = Outage{}, false
}

// cause says in a few words why a request failed.
func cause(err error) string {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout() {
		return "no answer in time"
	}
	if c, ok := errors.AsType[*ConfigError](err); ok {
		return c.What
	}
	return err.Error()
}
