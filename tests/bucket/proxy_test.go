package bucket

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"envfs/remote/s3/s3test"
)

// proxy stands between the command and the server, and lets the network be bad.
type proxy struct {
	addr string
	next http.RoundTripper

	mu    sync.Mutex
	rng   *rand.Rand
	share float64 // of the requests that something happens to
	rough bool    // worse things do, too

	latency time.Duration // of the others

	counts map[string]int
	server string // host:port

	ignored []string // headers that the server does not see
	signer  *s3test.Server
}

// ignore makes the server one that does not know some headers.
func (p *proxy) ignore(server *s3test.Server, headers ...string) {
	p.ignored, p.signer = headers, server
}

// newProxy starts a proxy in front of a server.
func newProxy(t *testing.T, server string, rng *rand.Rand) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{addr: l.Addr().String(), next: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, rng: rng,
		counts: make(map[string]int), server: server}
	s := &http.Server{Handler: p}
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		_ = s.Close()
		done.Wait()
	})
	return p
}

// faults sets the share of the requests that something happens to.
func (p *proxy) faults(share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.share = share
}

// listed is an entry of a LIST.
var listed = regexp.MustCompile(`(?s)<Contents>.*?</Contents>`)

// hard sets whether worse things happen, and how long all takes.
func (p *proxy) hard(rough bool, latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rough, p.latency = rough, latency
}

// draw says what happens to a request, and how long it takes longer.
func (p *proxy) draw() (fault string, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.share == 0 || p.rng.Float64() >= p.share {
		return "", p.latency
	}
	kinds := []string{"refused", "lost", "cut", "500", "503", "409", "late", "stalled"}
	if p.rough {
		kinds = append(kinds, "expired", "short", "unlisted")
		if p.rng.IntN(100) == 0 {
			kinds = []string{"stuck"}
		}
	}
	fault = kinds[p.rng.IntN(len(kinds))]
	switch fault {
	case "late":
		delay = time.Duration(p.rng.IntN(50)) * time.Millisecond
	case "stalled":
		delay = time.Duration(p.rng.IntN(1000)) * time.Millisecond
	case "stuck":
		delay = 10 * time.Second
	}
	p.counts[fault]++
	return fault, delay
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, delay := p.draw()
	switch fault {
	case "refused":
		panic(http.ErrAbortHandler)
	case "500", "503", "409", "expired":
		code := map[string]string{"500": "InternalError", "503": "SlowDown", "409": "ConditionalRequestConflict", "expired": "ExpiredToken"}[fault]
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(map[string]int{"500": 500, "503": 503, "409": 409, "expired": 400}[fault])
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>injected</Message></Error>", code)
		return
	}
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.server, ""
	if p.ignored != nil {
		for _, name := range p.ignored {
			out.Header.Del(name)
		}
		out.Host = p.server
		out = signer.SignV4(*out, p.signer.Access, p.signer.Secret, "", "us-east-1")
	}
	resp, err := p.next.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler) // as if the server were not there
	}
	defer resp.Body.Close()
	if fault == "lost" {
		_, _ = io.Copy(io.Discard, resp.Body)
		panic(http.ErrAbortHandler)
	}
	body := io.Reader(resp.Body)
	switch {
	case fault == "short" && r.Method == http.MethodGet && resp.StatusCode < 300 && resp.ContentLength > 0:
		body = io.LimitReader(resp.Body, resp.ContentLength-1) // and says so
		resp.Header.Set("Content-Length", fmt.Sprint(resp.ContentLength-1))
	case fault == "unlisted" && r.Method == http.MethodGet && r.URL.Query().Has("list-type"):
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		data = listed.ReplaceAll(data, nil) // as of before anything was written
		body = bytes.NewReader(data)
		resp.Header.Set("Content-Length", fmt.Sprint(len(data)))
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	if fault == "cut" && resp.ContentLength > 0 {
		_, _ = io.CopyN(w, resp.Body, resp.ContentLength/2)
		panic(http.ErrAbortHandler)
	}
	_, _ = io.Copy(w, body) // the client sees if it is cut off
}
