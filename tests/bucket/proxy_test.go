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

	denies  func(*http.Request) bool // which requests are refused with 403
	letIn   bool                     // no 403 is drawn
	denials int

	hook hook // of a test

	counts map[string]int
	server string // host:port

	ignored []string // headers that the server does not see
	signer  *s3test.Server
}

// hook is what a test does at a request. Both are called without locks, before it is sent to the server and once that has
// done it, and report whether the client is to hear nothing of it (and, before, the server neither).
type hook struct{ before, after func(*http.Request) bool }

// hooked sets the hook.
func (p *proxy) hooked(h hook) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = h
}

// deny has requests refused with 403; nil: none any more.
func (p *proxy) deny(which func(*http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.denies = which
}

// denied returns how many requests deny has refused.
func (p *proxy) denied() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.denials
}

// admit has nobody be refused by chance: who mounts is not let in then, and that is no fault.
func (p *proxy) admit(always bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.letIn = always
}

// conditional reports whether a request is one to replace root.
func conditional(r *http.Request) bool {
	return r.Method == http.MethodPut && r.Header.Get("If-Match") != ""
}

// deletion reports whether a request deletes objects: one, or many.
func deletion(r *http.Request) bool {
	return r.Method == http.MethodDelete || r.Method == http.MethodPost
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
func (p *proxy) draw(r *http.Request) (fault string, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.denies != nil && p.denies(r) {
		p.denials++
		return "denied", p.latency
	}
	if p.share == 0 || p.rng.Float64() >= p.share {
		return "", p.latency
	}
	kinds := []string{"refused", "lost", "cut", "500", "503", "409", "late", "stalled"}
	if !p.letIn {
		kinds = append(kinds, "denied")
	}
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

// injected are the faults that are replies.
var injected = map[string]struct {
	status int
	code   string
}{
	"500": {500, "InternalError"}, "503": {503, "SlowDown"}, "409": {409, "ConditionalRequestConflict"}, "expired": {400, "ExpiredToken"}, "denied": {403, "AccessDenied"},
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	hook := p.hook
	p.mu.Unlock()
	if hook.before != nil && hook.before(r) {
		panic(http.ErrAbortHandler)
	}
	fault, delay := p.draw(r)
	if fault == "refused" {
		panic(http.ErrAbortHandler)
	}
	if e, ok := injected[fault]; ok {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(e.status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>injected</Message></Error>", e.code)
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
	if hook.after != nil && hook.after(r) || fault == "lost" {
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
