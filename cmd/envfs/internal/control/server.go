package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// requestTimeout is how long a client may take to send its request.
const requestTimeout = 10 * time.Second

// maxConns is how many clients are served at once; further ones wait.
const maxConns = 32

// A Handler answers a request: with any number of replies, then by returning. ctx ends when the client goes away or
// sends [Break]; broken tells the two apart. A Handler may be called concurrently.
type Handler func(ctx context.Context, r Request, reply func(Reply)) error

// ErrBreak is the cause with which a handler's context ends after [Break].
var ErrBreak = errors.New("broken off by the user")

// Server listens at the socket of one mount.
type Server struct {
	hello   Hello
	handler Handler
	wire    func(error) *Error
	log     *slog.Logger
	path    string
	l       *net.UnixListener
	conns   sync.WaitGroup
	slots   chan struct{}
}

// Listen makes the socket of a mount in dir and serves it until [Server.Close]. wire turns a handler's error into what
// the client is told.
func Listen(dir string, hello Hello, handler Handler, wire func(error) *Error, log *slog.Logger) (*Server, error) {
	var id [8]byte
	rand.Read(id[:])
	// It has its name once somebody listens: others remove sockets that refuse them, as between bind(2) and listen(2).
	temp := filepath.Join(dir, hex.EncodeToString(id[:]))
	path := temp + suffix
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for requests: %w", err)
	}
	if err = os.Chmod(temp, 0o600); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		l.Close() // removes it, too
		return nil, fmt.Errorf("listen for requests: %w", err)
	}
	l.SetUnlinkOnClose(false)
	hello.Version = Version
	s := &Server{hello: hello, handler: handler, wire: wire, log: log, path: path, l: l, slots: make(chan struct{}, maxConns)}
	s.conns.Go(s.accept)
	return s, nil
}

// Stop removes the socket: no further client finds this mount. Requests that were begun go on.
func (s *Server) Stop() error {
	var errs []error
	if err := os.Remove(s.path); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	if err := s.l.Close(); !errors.Is(err, net.ErrClosed) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Close stops listening and waits until each request that was begun is answered.
func (s *Server) Close() error {
	err := s.Stop()
	s.conns.Wait()
	return err
}

func (s *Server) accept() {
	for {
		s.slots <- struct{}{}
		c, err := s.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("accept request", "error", err)
			<-s.slots
			continue
		}
		s.conns.Go(func() {
			defer func() { <-s.slots }()
			defer c.Close()
			if err := s.serve(c); err != nil {
				s.log.Warn("answer request", "error", err)
			}
		})
	}
}

func (s *Server) serve(c *net.UnixConn) error {
	cred, err := peer(c)
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Getuid() && cred.Uid != 0 {
		return fmt.Errorf("user %d has no business at this socket", cred.Uid)
	}
	enc := json.NewEncoder(c)
	c.SetDeadline(time.Now().Add(requestTimeout))
	if err := enc.Encode(s.hello); err != nil {
		return nil // who only looks whether somebody is there hangs up at once
	}
	lines := newLines(c)
	var req Request
	if err := lines.next(&req); err != nil {
		if errors.Is(err, errHungUp) {
			return nil
		}
		return err
	}
	c.SetDeadline(time.Time{})

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() {
		var more Request
		if err := lines.next(&more); err == nil && more.Verb == Break {
			cancel(ErrBreak)
			return
		}
		cancel(context.Canceled)
	}()

	var mu sync.Mutex
	reply := func(r Reply) {
		mu.Lock()
		defer mu.Unlock()
		c.SetWriteDeadline(time.Now().Add(requestTimeout))
		enc.Encode(r) // a client that went away ends ctx
	}
	last := Reply{Done: true}
	if err := s.handler(ctx, req, reply); err != nil {
		last.Error = s.wire(err)
	}
	reply(last)
	return nil
}

var errHungUp = errors.New("the other side hung up")

// lines reads messages. It wipes what it has read: there may be secrets in it, and a daemon lives long.
type lines struct {
	c   net.Conn
	buf []byte // what was read and belongs to no message yet; nothing but zeros up to its capacity
}

func newLines(c net.Conn) *lines { return &lines{c: c, buf: make([]byte, 0, 4096)} }

func (l *lines) next(v any) error {
	seen := 0
	for {
		if i := bytes.IndexByte(l.buf[seen:], '\n'); i >= 0 {
			return l.take(seen+i+1, v)
		}
		seen = len(l.buf)
		if seen == cap(l.buf) {
			if seen >= MaxLine {
				return errors.New("read message: it is too long")
			}
			old := l.buf
			l.buf = append(make([]byte, 0, 4*cap(old)), old...)
			clear(old)
		}
		n, err := l.c.Read(l.buf[seen:cap(l.buf)])
		l.buf = l.buf[:seen+n]
		if n > 0 {
			continue
		}
		if errors.Is(err, io.EOF) {
			return errHungUp
		}
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
	}
}

// take decodes the first n bytes, and wipes them.
func (l *lines) take(n int, v any) error {
	err := json.Unmarshal(l.buf[:n], v)
	rest := copy(l.buf, l.buf[n:])
	clear(l.buf[rest:])
	l.buf = l.buf[:rest]
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	return nil
}
