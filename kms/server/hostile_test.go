package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"envfs/kms"
	"envfs/kms/audit"
	"envfs/kms/ca"
	"envfs/kms/server"
)

// answer is how a raw request ended.
type answer struct {
	status  int
	code    string
	request string
}

// raw sends a request as it is.
func raw(t *testing.T, c *http.Client, method, url string, body io.Reader, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var told struct {
		Type string `json:"__type"`
	}
	json.Unmarshal(text, &told)
	return answer{resp.StatusCode, told.Type, resp.Header.Get("X-Amzn-Requestid")}
}

func TestStrangeRequests(t *testing.T) {
	w := newWorld(t, server.Options{})
	c := &http.Client{Transport: w.transport()}
	auth := "AWS4-HMAC-SHA256 Credential=" + w.admin.ID + "/20260101/us-east-1/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("0", 64)
	for _, r := range []struct {
		name, method, path string
		body               io.Reader
		headers            []string
		code               string
	}{
		{"nothing", "POST", "/", nil, nil, "MissingAuthenticationTokenException"},
		{"GET", "GET", "/", nil, nil, "UnknownOperationException"},
		{"another path", "POST", "/admin", nil, nil, "MissingAuthenticationTokenException"},
		{"a body too large", "POST", "/", bytes.NewReader(make([]byte, 1<<20)), nil, "RequestEntityTooLargeException"},
		{"an old signature", "POST", "/", nil, []string{"Authorization", auth, "X-Amz-Date", "20260101T000000Z"}, "InvalidSignatureException"},
		{"no date", "POST", "/", nil, []string{"Authorization", auth}, "IncompleteSignatureException"},
		{"another scheme", "POST", "/", nil, []string{"Authorization", "Basic YTpi"}, "IncompleteSignatureException"},
		{"an action of the machine's administrator", "POST", "/", nil, []string{"X-Amz-Target", "EnvfsKMS.CreateUser"}, "MissingAuthenticationTokenException"},
	} {
		if got := raw(t, c, r.method, w.url+r.path, r.body, r.headers...); got.code != r.code || got.status != 400 || got.request == "" {
			t.Errorf("%s: %+v, want %s", r.name, got, r.code)
		}
	}
	if got := raw(t, c, "GET", w.url+"/health", nil); got.status != 200 {
		t.Errorf("health: %+v", got)
	}
	// Who signs well, and asks for what only the machine's administrator may.
	_, err := w.client(w.admin, func(o *awskms.Options) { o.HTTPClient = retarget{w.transport(), "EnvfsKMS.CreateUser"} }).ListKeys(t.Context(), &awskms.ListKeysInput{})
	code(t, err, "InvalidSignatureException")
	if _, kerr := w.service.Do(&kms.Call{Action: "CreateUser", ID: "x", Caller: kms.Caller{ARN: "x", Admin: true}}, []byte(`{"Name":"eve"}`)); kerr == nil || kerr.Code != "AccessDeniedException" {
		t.Errorf("CreateUser by an administrator over the network: %v", kerr)
	}
}

// retarget sends requests with another target than was signed.
type retarget struct {
	http.RoundTripper
	target string
}

func (r retarget) Do(req *http.Request) (*http.Response, error) {
	req.Header.Set("X-Amz-Target", r.target)
	return r.RoundTrip(req)
}

// TestStrangersAreCounted: who sends many requests that are refused does not fill the disk, and keeps nobody out.
func TestStrangersAreCounted(t *testing.T) {
	now := time.Now()
	w := newWorld(t, server.Options{Now: func() time.Time { return now }}) // a clock that stands: all come in one second
	c := &http.Client{Transport: w.transport()}
	const sent = 500
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range sent / 10 {
				raw(t, c, "POST", w.url+"/", nil)
			}
		})
	}
	wg.Wait()
	if _, err := w.client(w.admin).ListKeys(t.Context(), &awskms.ListKeysInput{}); err != nil {
		t.Errorf("a user at the address of a stranger: %v", err)
	}
	w.stop()
	var all []audit.Entry
	readLog(t, w.dir, &all)
	told := 0
	for _, e := range all {
		if e.User == "" {
			told += 1 + e.Count
		}
	}
	if told != sent || len(all) > sent/10 {
		t.Errorf("the log tells of %d refusals in %d lines, of which there were %d", told, len(all), sent)
	}
}

func TestRate(t *testing.T) {
	now := time.Now()
	w := newWorld(t, server.Options{Rate: 5, Now: func() time.Time { return now }}) // a clock that stands: nothing is filled up again
	c, other := w.client(w.admin), w.client(w.user("alice"))
	throttled := 0
	for range 12 {
		if _, err := c.ListKeys(t.Context(), &awskms.ListKeysInput{}); err != nil {
			code(t, err, "ThrottlingException")
			throttled++
		}
	}
	if throttled != 7 {
		t.Errorf("%d calls of 12 were throttled, at 5 a second", throttled)
	}
	_, err := other.ListKeys(t.Context(), &awskms.ListKeysInput{})
	code(t, err, "AccessDeniedException") // and not throttled
}

// TestSocket: HTTP on a Unix socket is signed, too.
func TestSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	w := newWorld(t, server.Options{Socket: socket})
	dial := func(path string) *http.Transport {
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
		t.Cleanup(tr.CloseIdleConnections)
		return tr
	}
	over := func(o *awskms.Options) {
		o.BaseEndpoint, o.HTTPClient = aws.String("http://kms"), &http.Client{Transport: dial(socket)}
	}
	if _, err := w.client(w.admin, over).ListKeys(t.Context(), &awskms.ListKeysInput{}); err != nil {
		t.Error(err)
	}
	_, err := w.client(&kms.Access{ID: w.admin.ID, Secret: "x"}, over).ListKeys(t.Context(), &awskms.ListKeysInput{})
	code(t, err, "InvalidSignatureException")
	// The machine's administrator needs no signature, and does not decrypt.
	desk := &http.Client{Transport: dial(server.AdminSocket(w.dir))}
	if got := raw(t, desk, "POST", "http://kms/", strings.NewReader(`{}`), "X-Amz-Target", "EnvfsKMS.ListUsers"); got.status != 200 {
		t.Errorf("ListUsers: %+v", got)
	}
	key := w.key(w.client(w.admin))
	if got := raw(t, desk, "POST", "http://kms/", strings.NewReader(`{"KeyId":"`+key+`","Plaintext":"AAAA"}`), "X-Amz-Target", "TrentService.Encrypt"); got.code != "AccessDeniedException" {
		t.Errorf("Encrypt: %+v", got)
	}
	if st, err := os.Stat(server.AdminSocket(w.dir)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// TestPlainHTTP: on TCP there is TLS only.
func TestPlainHTTP(t *testing.T) {
	w := newWorld(t, server.Options{})
	resp, err := http.Get(strings.Replace(w.url, "https:", "http:", 1) + "/health")
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("answered with %s", resp.Status)
	}
}

// TestCertificate: long before its end the certificate is replaced by another of the same authority.
func TestCertificate(t *testing.T) {
	var mu sync.Mutex
	now := time.Now().Add(-ca.ServerLife + 24*time.Hour) // what is issued now ends in a day
	w := newWorld(t, server.Options{Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	serial := func() string {
		tr := w.transport()
		resp, err := (&http.Client{Transport: tr}).Get(w.url + "/health")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	if again := serial(); again != first {
		t.Error("each connection has a certificate of its own")
	}
	mu.Lock()
	now = time.Now()
	mu.Unlock()
	if serial() == first {
		t.Error("the certificate is not replaced")
	}
}
