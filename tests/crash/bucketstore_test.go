package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"envfs/remote"
)

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
	id    int
	onPut func(name string) // may be nil
}

// ask has a request done.
func (c *client) ask(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b := c.bucket
	r.by = c.id
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
