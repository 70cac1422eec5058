package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// echo answers each connection with what it says, until it has no more to say.
func echo(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// There and back takes as long as was said, once more for the handshake, and much can be on its way.
func TestDelay(t *testing.T) {
	d, err := newDelayProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	data := bytes.Repeat([]byte("the owl and the pussycat "), 1<<20)
	for _, latency := range []time.Duration{0, 200 * time.Millisecond} {
		d.set(latency)
		c, err := net.Dial("tcp", d.addr())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			begun := time.Now()
			go func() { _, _ = c.Write(data) }() // the answer tells
			got := make([]byte, len(data))
			if _, err := io.ReadFull(c, got[:1]); err != nil {
				t.Fatal(err)
			}
			first := time.Since(begun)
			if _, err := io.ReadFull(c, got[1:]); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("it did not come back whole: %v", err)
			}
			least := latency
			if i == 0 {
				least *= 2
			}
			if first < least {
				t.Errorf("latency %v: answer %d after %v, before %v", latency, i, first, least)
			}
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
			t.Errorf("at the end: %d bytes, %v", n, err)
		}
		c.Close()
	}
	d.set(time.Hour)
	c, err := net.Dial("tcp", d.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Write(data); err != nil {
		t.Errorf("%d bytes are on their way, and no more can be: %v", n, err)
	}
}

func TestCounter(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 70_000))
		}
	}))
	defer server.Close()
	c, err := newCounter(strings.TrimPrefix(server.URL, "http://"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path, body, source string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if source != "" {
			r.Header.Set("X-Amz-Copy-Source", source)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
	}
	send("PUT", "/bucket/before", "y", "")
	before := c.now()
	send("GET", "/bucket/?list-type=2", "", "")
	send("GET", "/bucket/key", "", "")
	send("PUT", "/bucket/key", strings.Repeat("y", 60_000), "")
	send("PUT", "/bucket/copy", "", "/bucket/key")
	send("POST", "/bucket/?delete=", "y", "")
	send("POST", "/bucket/key?uploads=", "", "")
	send("HEAD", "/bucket/key", "", "")
	if err := c.close(); err != nil { // when all are counted
		t.Error(err)
	}
	want := "7: COPY 1, DELETE 1, GET 1, HEAD 1, LIST 1, POST 1, PUT 1; 0.1 MB up; 0.1 MB down"
	if got := c.now().minus(before).String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
