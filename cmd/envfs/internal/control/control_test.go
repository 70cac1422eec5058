package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func wireError(err error) *Error { return &Error{Code: 7, Message: err.Error(), Hint: "a hint"} }

// serve opens a socket in a directory of the test and returns its path.
func serve(t *testing.T, h Handler) string {
	t.Helper()
	dir := t.TempDir()
	s, err := Listen(dir, Hello{Mountpoint: "/m", Store: "/s"}, h, wireError, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	found, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(found) != 1 {
		t.Fatalf("sockets: %v, %v", found, err)
	}
	return found[0]
}

func connect(t *testing.T, path string) *Client {
	t.Helper()
	c, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRequest(t *testing.T) {
	path := serve(t, func(_ context.Context, r Request, reply func(Reply)) error {
		if r.Verb != Status {
			return errors.New("no such thing")
		}
		reply(Reply{Notice: "one"})
		reply(Reply{Progress: &Progress{Stage: "two", Done: 1, Total: 2}})
		return nil
	})
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	c := connect(t, path)
	if c.Hello.Mountpoint != "/m" || c.Hello.Store != "/s" || c.Hello.Version != Version {
		t.Errorf("hello: %+v", c.Hello)
	}
	var got []Reply
	if err := c.Do(t.Context(), Request{Verb: Status}, func(r Reply) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Notice != "one" || got[1].Progress.Stage != "two" {
		t.Errorf("replies: %+v", got)
	}
	err := connect(t, path).Do(t.Context(), Request{Verb: "nonsense"}, func(Reply) {})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != 7 || e.Message != "no such thing" || e.Hint != "a hint" {
		t.Errorf("error: %#v", err)
	}
}

func TestBreak(t *testing.T) {
	path := serve(t, func(ctx context.Context, _ Request, reply func(Reply)) error {
		reply(Reply{Notice: "begun"})
		<-ctx.Done()
		return context.Cause(ctx)
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := connect(t, path).Do(ctx, Request{Verb: Unmount}, func(Reply) { cancel() })
	if err == nil || err.Error() != ErrBreak.Error() {
		t.Errorf("broken off: %v", err)
	}
}

// A client that goes away ends the context with another cause than one that breaks off.
func TestHangUp(t *testing.T) {
	cause := make(chan error, 1)
	path := serve(t, func(ctx context.Context, _ Request, reply func(Reply)) error {
		reply(Reply{Notice: "begun"})
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil
	})
	c := connect(t, path)
	err := c.Do(t.Context(), Request{Verb: Unmount}, func(Reply) { c.c.Close() })
	if err == nil {
		t.Error("a closed connection gave an answer")
	}
	if err := <-cause; !errors.Is(err, context.Canceled) {
		t.Errorf("cause: %v", err)
	}
}

func TestOtherVersion(t *testing.T) {
	c := &Client{Hello: Hello{Version: Version + 1, Mountpoint: "/m"}, pidfd: -1}
	if err := c.Do(t.Context(), Request{Verb: Status}, nil); err == nil {
		t.Error("a daemon of another version was asked")
	}
}

// Between Stop and Close nobody new is let in, and who asked before gets an answer.
func TestStop(t *testing.T) {
	dir, begun, end := t.TempDir(), make(chan struct{}), make(chan struct{})
	s, err := Listen(dir, Hello{}, func(context.Context, Request, func(Reply)) error {
		close(begun)
		<-end
		return nil
	}, wireError, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, s.path)
	answer := make(chan error, 1)
	go func() { answer <- c.Do(t.Context(), Request{Verb: Unmount}, func(Reply) {}) }()
	<-begun
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	close(end)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// A socket is never taken for one that nobody serves any more while its server begins.
func TestSocketsAreNotRemovedTooEarly(t *testing.T) {
	dir := t.TempDir()
	var over atomic.Bool
	var looking sync.WaitGroup
	for range 3 {
		looking.Go(func() {
			for !over.Load() {
				clients, err := allIn(dir)
				if err != nil {
					t.Error(err)
					return
				}
				for _, c := range clients {
					c.Close()
				}
			}
		})
	}
	stop := func() {
		over.Store(true)
		looking.Wait()
	}
	defer stop()
	for i := range 2000 {
		s, err := Listen(dir, Hello{}, func(context.Context, Request, func(Reply)) error { return nil }, wireError, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.path); err != nil {
			t.Errorf("server %d: %v", i, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	stop()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// What was read is wiped, whatever the lengths of the messages and the pieces in which they come: there are secrets in it.
func TestReadMessagesAreWiped(t *testing.T) {
	for _, size := range []int{1, 3000, 100_000} {
		here, there := net.Pipe()
		t.Cleanup(func() { here.Close() })
		want := []Reply{{Notice: strings.Repeat("secret", size)}, {Notice: "next"}, {Done: true}}
		go func() {
			defer there.Close()
			var all bytes.Buffer
			enc := json.NewEncoder(&all)
			for _, r := range want {
				enc.Encode(r)
			}
			for all.Len() > 0 {
				there.Write(all.Next(1000))
			}
		}()
		l := newLines(here)
		for i := range want {
			var got Reply
			if err := l.next(&got); err != nil || got != want[i] {
				t.Fatalf("message %d: %v", i, err)
			}
			if bytes.Contains(l.buf[:cap(l.buf)], []byte("secret")) {
				t.Errorf("message %d of %d bytes is still there", i, len(want[i].Notice))
			}
		}
		if err := l.next(new(Reply)); !errors.Is(err, errHungUp) {
			t.Errorf("at the end: %v", err)
		}
	}
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		for {
			if _, err := there.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	if err := newLines(here).next(new(Reply)); err == nil || errors.Is(err, errHungUp) {
		t.Errorf("a message without an end: %v", err)
	}
	there.Close()
}
