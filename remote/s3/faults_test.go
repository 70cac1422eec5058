package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"envfs/remote"
	"envfs/remote/s3"
	"envfs/remote/s3/s3test"
)

// faulty stands in front of the transport; fault decides about each request that is sent, before and after.
type faulty struct {
	next  http.RoundTripper
	mu    sync.Mutex
	fault func(r *http.Request) fault
}

// fault is what happens to a request.
type fault int

const (
	none      fault = iota
	lostReply       // it is done, but nobody hears of it
	refused         // it is not done: no connection
	slowDown        // it is not done: 503
	cutBody         // the reply ends in its middle
	conflict        // it is not done: 409
	denied          // it is not done: 403
)

func (f *faulty) set(fn func(r *http.Request) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fn
}

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	what := none
	if f.fault != nil {
		what = f.fault(r)
	}
	f.mu.Unlock()
	switch what {
	case refused:
		return nil, errors.New("no connection")
	case slowDown:
		return reply(r, 503, "SlowDown"), nil
	case conflict:
		return reply(r, 409, "ConditionalRequestConflict"), nil
	case denied:
		return reply(r, 403, "AccessDenied"), nil
	}
	resp, err := f.next.RoundTrip(r)
	switch {
	case err != nil:
	case what == lostReply:
		resp.Body.Close()
		return nil, errors.New("connection lost")
	case what == cutBody:
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, resp.ContentLength/2), resp.Body}
	}
	return resp, err
}

func reply(r *http.Request, status int, code string) *http.Response {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	body := "<Error><Code>" + code + "</Code><Message>injected</Message></Error>"
	return &http.Response{StatusCode: status, Status: code, Request: r, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body))}
}

// quick tries again soon, and gives nothing up only because the machine is slow.
var quick = s3.Retry{First: time.Millisecond, Max: 20 * time.Millisecond, Patience: 2 * time.Minute, Attempt: time.Minute}

// bench is a new vault's store behind faults.
type bench struct {
	*s3.Store
	server  *s3test.Server
	address s3.Address
	faults  *faulty
}

func eachServer(t *testing.T, fn func(t *testing.T, b *bench)) {
	for _, kind := range []s3test.Kind{s3test.MinIO, s3test.VersityGW} {
		t.Run(string(kind), func(t *testing.T) {
			b := &bench{server: start(t, serverID{kind, false}), faults: new(faulty)}
			b.address = address(t, b.server, "")
			b.Store = open(t, b.server, b.address, s3.Options{Retry: quick, Transport: func(next http.RoundTripper) http.RoundTripper {
				b.faults.next = next
				return b.faults
			}})
			fn(t, b)
		})
	}
}

// another opens the vault as another process does, without faults.
func (b *bench) another(t *testing.T) *s3.Store { return open(t, b.server, b.address, s3.Options{}) }

// replaceRoot replaces the root.
func replaceRoot(t *testing.T, s *s3.Store, old, data string) error {
	t.Helper()
	var before []byte
	if old != "" {
		before = []byte(old)
	}
	return s.Replace(t.Context(), "root", before, func([]byte) ([]byte, error) { return []byte(data), nil })
}

func (b *bench) holds(t *testing.T, name, want string) {
	t.Helper()
	if got, err := b.another(t).Get(t.Context(), name, 1<<20); err != nil || string(got) != want {
		t.Errorf("%s holds %.20q, %v; want %.20q", name, got, err, want)
	}
}

// first makes the first n requests of a method fail.
func first(n int, method string, what fault) func(*http.Request) fault {
	return func(r *http.Request) fault {
		if n > 0 && r.Method == method {
			n--
			return what
		}
		return none
	}
}

// nameOf returns the name of a header.
func nameOf(i int) string {
	return "files/aa/aaaaaaaaaaaaaaaaaaaaaaaaaa.h1-" + string(rune('a'+i)) + "aaaaaaaaaaaaaaaaaaaa"
}

// A PUT that was done although its reply was lost is known as one's own; one that somebody else has done is not.
func TestLostReplyOfPut(t *testing.T) {
	eachServer(t, func(t *testing.T, b *bench) {
		for i, what := range []fault{lostReply, refused, slowDown, conflict} {
			name := nameOf(i)
			b.faults.set(first(3, http.MethodPut, what))
			if err := b.Put(t.Context(), name, []byte("mine")); err != nil {
				t.Errorf("fault %d: %v", what, err)
			}
			b.holds(t, name, "mine")
			for _, other := range []string{"other", "me", ""} {
				b.faults.set(first(1, http.MethodPut, lostReply))
				if err := b.Put(t.Context(), name, []byte(other)); !errors.Is(err, remote.ErrExist) {
					t.Errorf("put what another has put, with a reply lost: %v", err)
				}
			}
			b.holds(t, name, "mine")
		}
	})
}

// A conditional PUT whose reply was lost has succeeded iff the new content is there.
func TestLostReplyOfReplace(t *testing.T) {
	eachServer(t, func(t *testing.T, b *bench) {
		now := ""
		for i, what := range []fault{lostReply, none, lostReply, refused, slowDown, conflict} {
			next := fmt.Sprint(i)
			b.faults.set(first(2, http.MethodPut, what))
			if err := replaceRoot(t, b.Store, now, next); err != nil {
				t.Fatalf("fault %d: %v", what, err)
			}
			now = next
			b.holds(t, "root", now)
		}
	})
}

// Between an attempt whose reply was lost and the next one another writer may come: then the second attempt must not
// destroy that one's work, and is not taken for success.
func TestOtherWriterAfterLostReply(t *testing.T) {
	eachServer(t, func(t *testing.T, b *bench) {
		now := ""
		for i, what := range []fault{lostReply, refused, lostReply, refused} {
			before, theirs := now, fmt.Sprintf("theirs %d", i)
			if what == lostReply {
				before = fmt.Sprintf("mine %d", i)
			}
			attempts := 0
			b.faults.set(func(r *http.Request) fault {
				if r.Method != http.MethodPut {
					return none
				}
				if attempts++; attempts == 1 {
					return what
				}
				if attempts == 2 {
					if err := replaceRoot(t, b.another(t), before, theirs); err != nil {
						t.Error(err)
					}
				}
				return none
			})
			if err := replaceRoot(t, b.Store, now, fmt.Sprintf("mine %d", i)); !errors.Is(err, remote.ErrChanged) {
				t.Errorf("fault %d: %v", what, err)
			}
			now = theirs
			b.holds(t, "root", now)
		}
	})
}

// Bodies that end early are asked for again.
func TestCutBodies(t *testing.T) {
	eachServer(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		data := bytes.Repeat([]byte("envfs"), 10_000)
		var want []remote.Info
		for i := range 10 {
			if err := b.Put(ctx, nameOf(i), data); err != nil {
				t.Fatal(err)
			}
			want = append(want, remote.Info{Name: nameOf(i), Size: int64(len(data))})
		}
		b.faults.set(first(2, http.MethodGet, cutBody))
		if got, err := b.Get(ctx, nameOf(0), 1<<20); err != nil || !bytes.Equal(got, data) {
			t.Errorf("get: %d bytes, %v", len(got), err)
		}
		b.faults.set(first(2, http.MethodGet, cutBody))
		p := make([]byte, 1000)
		if n, err := b.ReadAt(ctx, nameOf(0), p, 5); n != len(p) || err != nil || !bytes.Equal(p, data[5:1005]) {
			t.Errorf("read: %d bytes, %v", n, err)
		}
		b.faults.set(first(2, http.MethodGet, cutBody))
		var got []remote.Info
		err := b.List(ctx, "files/", func(i remote.Info) error {
			got = append(got, i)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("list: %v, %v", got, err)
		}
	})
}

// A server that is away for longer than patience lasts is an error; requests end when their context does.
func TestServerAway(t *testing.T) {
	eachServer(t, func(t *testing.T, b *bench) {
		b.faults.set(func(*http.Request) fault { return refused })
		impatient := quick
		impatient.Patience = 50 * time.Millisecond
		s := open(t, b.server, b.address, s3.Options{Retry: impatient, Transport: func(http.RoundTripper) http.RoundTripper { return b.faults }})
		if _, err := s.Get(t.Context(), "root", 10); err == nil || errors.Is(err, remote.ErrNotExist) || !strings.Contains(err.Error(), "gave up") {
			t.Errorf("get: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := b.Get(ctx, "root", 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get: %v", err)
		}
	})
}

// MinIO is killed while objects are put, and started again: all that was reported is there.
func TestKilledServer(t *testing.T) {
	dir := t.TempDir()
	server, err := s3test.Start(s3test.MinIO, dir, s3test.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	s := open(t, server, address(t, server, ""), s3.Options{Retry: quick})
	var wg sync.WaitGroup
	done, killed := make(chan string, 400), make(chan struct{})
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				if i == 50 {
					<-killed
				}
				name := "damaged/" + fmt.Sprintf("%d-%d", w, i)
				if err := s.Put(t.Context(), name, []byte(name)); err != nil {
					t.Error(err)
					return
				}
				done <- name
			}
		})
	}
	for len(done) < 50 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	server.Kill()
	close(killed)
	for s.Stats().Retries == 0 && !t.Failed() { // until one has met with the server's absence
		time.Sleep(time.Millisecond)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	close(done)
	var names []string
	for name := range done {
		names = append(names, name)
	}
	for _, name := range names {
		if got, err := s.Get(t.Context(), name, 100); err != nil || string(got) != name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if len(names) != 400 {
		t.Errorf("%d of 400 were put", len(names))
	}
}
