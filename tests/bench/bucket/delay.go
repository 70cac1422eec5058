package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// chunkSize is how much is read from a connection at a time, in bytes.
	chunkSize = 64 << 10
	// onTheWay is how many chunks a connection may have on their way: at 10 ms far more than pass through here.
	onTheWay = 2048
)

// delayProxy passes connections on. Each byte arrives later than it was sent by half the latency, however many there are;
// so the latency is long and the way is wide.
type delayProxy struct {
	listener net.Listener
	to       string // host:port
	latency  atomic.Int64
	done     sync.WaitGroup
	ended    chan struct{} // closed by close: nothing is waited for any more

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

func newDelayProxy(to string) (*delayProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delayProxy{listener: l, to: to, ended: make(chan struct{}), conns: make(map[net.Conn]bool)}
	d.done.Go(d.serve)
	return d, nil
}

func (d *delayProxy) addr() string { return d.listener.Addr().String() }

// set sets how long there and back takes, for connections from now on.
func (d *delayProxy) set(latency time.Duration) { d.latency.Store(int64(latency)) }

func (d *delayProxy) serve() {
	for {
		near, err := d.listener.Accept()
		if err != nil {
			return // it was closed
		}
		d.done.Go(func() { d.connect(near.(*net.TCPConn)) })
	}
}

// keep remembers a connection, to close it in the end. It reports whether there is an end already.
func (d *delayProxy) keep(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.conns[c] = true
	}
	return !d.closed
}

func (d *delayProxy) drop(c net.Conn) {
	_ = c.Close() // all of it was sent, or cannot be
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

func (d *delayProxy) connect(near *net.TCPConn) {
	defer d.drop(near)
	conn, err := net.Dial("tcp", d.to)
	if err != nil {
		return
	}
	far := conn.(*net.TCPConn)
	defer d.drop(far)
	if !d.keep(near) || !d.keep(far) {
		return
	}
	latency := time.Duration(d.latency.Load())
	var both sync.WaitGroup
	both.Go(func() { d.pass(far, near, latency/2, latency) }) // the first bytes come behind the handshake
	both.Go(func() { d.pass(near, far, latency/2, 0) })
	both.Wait()
}

// pass passes on what comes from a connection: each byte late, the first ones by first in addition.
func (d *delayProxy) pass(to, from *net.TCPConn, late, first time.Duration) {
	if late == 0 {
		_, _ = io.Copy(to, from) // each end sees if the other is gone
		_ = to.CloseWrite()
		return
	}
	type chunk struct {
		data []byte
		due  time.Time
	}
	way := make(chan chunk, onTheWay)
	go func() {
		defer close(way)
		for extra := first; ; extra = 0 {
			buf := make([]byte, chunkSize)
			n, err := from.Read(buf)
			if n > 0 {
				way <- chunk{buf[:n], time.Now().Add(late + extra)}
			}
			if err != nil {
				return
			}
		}
	}()
	var err error
	for c := range way {
		select {
		case <-time.After(time.Until(c.due)):
		case <-d.ended:
		}
		if err == nil {
			if _, err = to.Write(c.data); err != nil {
				_ = from.CloseRead() // so that the other goroutine ends
			}
		}
	}
	_ = to.CloseWrite()
}

// close ends all connections.
func (d *delayProxy) close() error {
	err := d.listener.Close()
	d.mu.Lock()
	d.closed = true
	close(d.ended)
	for c := range d.conns {
		if e := c.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	d.mu.Unlock()
	d.done.Wait()
	return err
}
