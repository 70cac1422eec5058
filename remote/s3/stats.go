package s3

import (
	"net/http"
	"sync/atomic"
)

// Stats are counts since Open.
type Stats struct {
	Requests       int64 // that were sent, also those again
	Retries        int64
	Failed         int64 // calls that ended with an error which no caller asked for
	LastFailure    string
	RefusedDeletes int64 // objects that the server keeps, for example as it was told to by a lock
	Sent, Received int64 // bytes of content
}

type counters struct {
	requests, retries, failed, refused, sent, received atomic.Int64
	last                                               atomic.Pointer[string]
}

// fail counts a call that ended with an error.
func (c *counters) fail(err error) {
	c.failed.Add(1)
	text := err.Error()
	c.last.Store(&text)
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	c := &s.count
	st := Stats{Requests: c.requests.Load(), Retries: c.retries.Load(), Failed: c.failed.Load(),
		RefusedDeletes: c.refused.Load(), Sent: c.sent.Load(), Received: c.received.Load()}
	if p := c.last.Load(); p != nil {
		st.LastFailure = *p
	}
	return st
}

// counting counts requests.
type counting struct {
	next  http.RoundTripper
	count *counters
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.count.requests.Add(1)
	return c.next.RoundTrip(r)
}
