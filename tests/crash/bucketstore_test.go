package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
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
	kind   requestKind
	names  []string
	data   []byte
	old    []byte // of reqReplace; nil: there is to be none
	by     int    // machine
	done   bool   // it has taken effect
	begun  int    // event
	before int    // length of the history when it began
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

// fault is what happens to a request.
type fault uint8

const (
	faultNone  fault = iota
	faultLost        // it is not done
	faultReply       // it is done, and the reply is lost
	faultLate        // it counts as not done, and is done later
)

// bucket is a remote.Store in memory that many machines share. What changes it is on tape, if there is one.
type bucket struct {
	mu    sync.Mutex
	all   objects
	tape  *tape
	late  []*request
	fault func(r *request) fault // may be nil
}

var errNoReply = errors.New("no reply")

// client is how one machine sees the bucket.
type client struct {
	*bucket
	id      int
	history func() int        // may be nil
	onPut   func(name string) // may be nil
}

// ask has a request done.
func (c *client) ask(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b := c.bucket
	r.by = c.id
	if c.history != nil {
		r.before = c.history()
	}
	b.mu.Lock()
	b.land()
	b.note(evBegin, r)
	f := faultNone
	if b.fault != nil {
		f = b.fault(r)
	}
	b.mu.Unlock()
	if c.onPut != nil && r.kind == reqPut {
		c.onPut(r.names[0])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if f == faultLate {
		b.late = append(b.late, r)
	}
	var err error
	if f == faultNone || f == faultReply {
		if err = b.all.apply(r); err == nil {
			b.note(evEffect, r)
		}
	}
	if f != faultLate {
		b.note(evEnd, r)
	}
	if f != faultNone {
		err = errNoReply
	}
	return err
}

// land has late requests take effect. b.mu is held.
func (b *bucket) land() {
	if len(b.late) < 3 {
		return
	}
	r := b.late[0]
	b.late = b.late[1:]
	if b.all.apply(r) == nil {
		b.note(evEffect, r)
	}
	b.note(evEnd, r)
}

func (b *bucket) note(what eventKind, r *request) {
	if b.tape == nil {
		return
	}
	b.tape.mu.Lock()
	defer b.tape.mu.Unlock()
	if i := b.tape.add(what, r); what == evBegin {
		r.begun = i
	}
}

// now returns what the bucket holds.
func (b *bucket) now() objects {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.all)
}

// become makes the bucket hold something else.
func (b *bucket) become(o objects) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = maps.Clone(o)
}

func (c *client) get(name string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	data, ok := c.all[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, remote.ErrNotExist)
	}
	return data, nil
}

// ReadAt implements remote.Store.
func (c *client) ReadAt(_ context.Context, name string, p []byte, off int64) (int, error) {
	data, err := c.get(name)
	if err != nil {
		return 0, err
	}
	n := copy(p, data[min(off, int64(len(data))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Get implements remote.Store.
func (c *client) Get(_ context.Context, name string, limit int64) ([]byte, error) {
	data, err := c.get(name)
	if err == nil && int64(len(data)) > limit {
		err = remote.ErrNotObject
	}
	return bytes.Clone(data), err
}

// Size implements remote.Store.
func (c *client) Size(_ context.Context, name string) (int64, error) {
	data, err := c.get(name)
	return int64(len(data)), err
}

// Put implements remote.Store. Who cannot tell whether it was done asks again, as remote/s3 does.
func (c *client) Put(ctx context.Context, name string, data []byte) error {
	err := c.ask(ctx, &request{kind: reqPut, names: []string{name}, data: bytes.Clone(data)})
	if err != nil {
		err = fmt.Errorf("put %s: %w", name, err)
	}
	return err
}

// Replace implements remote.Store.
func (c *client) Replace(ctx context.Context, name string, old []byte, content func([]byte) ([]byte, error)) error {
	id, _ := c.Identity(ctx)
	data, err := content(id)
	if err == nil {
		err = c.ask(ctx, &request{kind: reqReplace, names: []string{name}, data: bytes.Clone(data), old: bytes.Clone(old)})
	}
	if err != nil {
		err = fmt.Errorf("replace %s: %w", name, err)
	}
	return err
}

// Delete implements remote.Store.
func (c *client) Delete(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	return c.ask(ctx, &request{kind: reqDelete, names: slices.Clone(names)})
}

// List implements remote.Store.
func (c *client) List(_ context.Context, prefix string, fn func(remote.Info) error) error {
	all := c.now()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if err := fn(remote.Info{Name: name, Size: int64(len(all[name]))}); err != nil {
			return err
		}
	}
	return nil
}

func (*client) Sync(context.Context) error               { return nil }
func (*client) Identity(context.Context) ([]byte, error) { return []byte("a bucket"), nil }
func (*client) Location() string                         { return "s3://in/memory" }
func (*client) Close() error                             { return nil }
func (*client) Space(context.Context) (remote.Space, error) {
	return remote.Space{Total: 1 << 50, Free: 1 << 50, Available: 1 << 50}, nil
}

// rootOf returns the root that a bucket holds.
func (o objects) root() []byte { return o[blockcrypt.RootName] }
