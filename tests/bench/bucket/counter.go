package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"envfs/tests/bench/lab"
)

// counts are requests by what they ask for, and the bytes of their content.
type counts struct {
	kinds    map[string]int
	up, down int64
}

// minus returns what has come since earlier.
func (c counts) minus(earlier counts) counts {
	d := counts{make(map[string]int), c.up - earlier.up, c.down - earlier.down}
	for kind, n := range c.kinds {
		if n -= earlier.kinds[kind]; n > 0 {
			d.kinds[kind] = n
		}
	}
	return d
}

func (c counts) total() int {
	total := 0
	for _, n := range c.kinds {
		total += n
	}
	return total
}

// String is such as "12: GET 10, LIST 2; 0.1 MB up; 4.2 MB down".
func (c counts) String() string {
	if c.total() == 0 {
		return "0"
	}
	var parts []string
	for kind, n := range c.kinds {
		parts = append(parts, fmt.Sprintf("%s %s", kind, lab.Count(n)))
	}
	slices.Sort(parts)
	text := lab.Count(c.total()) + ": " + strings.Join(parts, ", ")
	for _, b := range []struct {
		n   int64
		way string
	}{{c.up, "up"}, {c.down, "down"}} {
		if b.n >= 50_000 {
			text += fmt.Sprintf("; %.1f MB %s", float64(b.n)/1e6, b.way)
		}
	}
	return text
}

// counter is a proxy in front of the server that counts.
type counter struct {
	server *http.Server
	addr   string
	to     string // host:port
	next   *http.Transport
	done   sync.WaitGroup
	begun  time.Time
	trace  io.Writer // or nil

	mu   sync.Mutex
	sums counts
}

func newCounter(to string, trace io.Writer) (*counter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &counter{addr: l.Addr().String(), to: to, begun: time.Now(), trace: trace, sums: counts{kinds: make(map[string]int)},
		next: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}}
	c.server = &http.Server{Handler: c}
	c.done.Go(func() { _ = c.server.Serve(l) }) // until it is closed
	return c, nil
}

func (c *counter) close() error {
	err := c.server.Close()
	c.done.Wait()
	c.next.CloseIdleConnections()
	return err
}

// now returns what was counted so far.
func (c *counter) now() counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sums.minus(counts{})
}

// note writes a line into the trace.
func (c *counter) note(text string) {
	if c.trace == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.trace, "%9.3f %s\n", time.Since(c.begun).Seconds(), text)
}

// kindOfRequest says what a request asks for, as S3 calls it.
func kindOfRequest(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodGet && key == "":
		return "LIST"
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return "COPY"
	case r.Method == http.MethodPost && r.URL.Query().Has("delete"):
		return "DELETE"
	default:
		return r.Method
	}
}

// counted counts the bytes that are read.
type counted struct {
	io.ReadCloser
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	up := &counted{ReadCloser: r.Body}
	var down int64
	var status int
	c.mu.Lock()
	c.sums.kinds[kindOfRequest(r)]++ // at once: a step may end before its last request has
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.sums.up += up.n
		c.sums.down += down
		c.mu.Unlock()
		c.note(fmt.Sprintf("%-6s %d %6.1f ms up %d down %d %s %s", kindOfRequest(r), status, float64(time.Since(begun).Microseconds())/1000,
			up.n, down, r.URL.RequestURI(), r.Header.Get("Range")))
	}()
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", c.to, ""
	if r.ContentLength != 0 {
		out.Body = up
	}
	resp, err := c.next.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler) // as if the server were not there
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	status = resp.StatusCode
	w.WriteHeader(status)
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	down, _ = io.CopyBuffer(struct{ io.Writer }{w}, resp.Body, *buf) // the client sees if it is cut off
}
