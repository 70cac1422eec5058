package crash

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"

	"envfs/blockcrypt"
	"envfs/remote"
)

// objects are what a bucket holds. Contents never change.
type objects map[string][]byte

// requestKind is what a request does to the bucket.
type requestKind uint8

const (
	reqPut requestKind = iota
	reqReplace
	reqDelete
)

// request is one that changes the bucket. It takes effect at some moment after it began, if at all.
type request struct {
	kind  requestKind
	names []string
	data  []byte
	old   []byte // of reqReplace; nil: there is to be none
	by    int    // machine
	begun int    // event
}

func (r *request) String() string {
	what := []string{"PUT", "conditional PUT", "DELETE"}[r.kind]
	return fmt.Sprintf("%s of %s by machine %d", what, strings.Join(r.names, " "), r.by)
}

// apply does the request.
func (o objects) apply(r *request) error {
	switch r.kind {
	case reqPut:
		if _, ok := o[r.names[0]]; ok {
			return remote.ErrExist
		}
		o[r.names[0]] = r.data
	case reqReplace:
		if was, ok := o[r.names[0]]; ok != (r.old != nil) || !bytes.Equal(was, r.old) {
			return remote.ErrChanged
		}
		o[r.names[0]] = r.data
	case reqDelete:
		for _, name := range r.names {
			delete(o, name)
		}
	}
	return nil
}

// event is the beginning, the effect or the end of a request.
type event struct {
	what eventKind
	req  *request
	disk map[int]int // how long the log of each machine's disk was
}

type eventKind uint8

const (
	evBegin eventKind = iota
	evEffect
	evEnd
)

// tape is what happened to a bucket, in order.
type tape struct {
	mu     sync.Mutex
	base   objects
	events []event
	disks  map[int]func() int
}

// add notes an event and returns its number. t.mu is held.
func (t *tape) add(what eventKind, r *request) int {
	disk := make(map[int]int)
	for id, length := range t.disks {
		disk[id] = length()
	}
	t.events = append(t.events, event{what, r, disk})
	return len(t.events) - 1
}

func (t *tape) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.events)
}

// cut is a moment at which all machines end: before event at.
type cut struct {
	at     int
	bucket objects
	disk   map[int]int
	landed []*request // of those under way, what took effect
	lost   []*request // and what did not
}

// cutAt builds the bucket as an end before event at leaves it. Of the requests under way any may have
// taken effect; none if rng is nil.
func (t *tape) cutAt(at int, rng *rand.Rand) *cut {
	c := &cut{at: at, bucket: maps.Clone(t.base), disk: t.events[min(at, len(t.events)-1)].disk}
	ended := make(map[*request]bool)
	for i := range t.events[:at] {
		if t.events[i].what == evEnd {
			ended[t.events[i].req] = true
		}
	}
	var under []*request
	for i := range t.events[:at] {
		e := &t.events[i]
		switch {
		case e.what == evEffect && ended[e.req]:
			_ = c.bucket.apply(e.req) // as it went
		case e.what == evBegin && !ended[e.req]:
			under = append(under, e.req)
		}
	}
	share := 0.0
	if rng != nil {
		share = []float64{0, 0.5, 1}[rng.IntN(3)]
	}
	for _, r := range under {
		if share > 0 && rng.Float64() < share && c.bucket.apply(r) == nil {
			c.landed = append(c.landed, r)
		} else {
			c.lost = append(c.lost, r)
		}
	}
	return c
}

func (c *cut) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "before event %d", c.at)
	for _, r := range c.landed {
		fmt.Fprintf(&b, "\n\tunder way, done: %v", r)
	}
	for _, r := range c.lost {
		fmt.Fprintf(&b, "\n\tunder way, not done: %v", r)
	}
	return b.String()
}

// root returns the root that a bucket holds.
func (o objects) root() []byte { return o[blockcrypt.RootName] }
