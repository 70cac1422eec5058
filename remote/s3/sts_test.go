package s3_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"envfs/remote/s3"
	"envfs/remote/s3/s3test"
)

// everything is the policy of who may do all.
const everything = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}]}`

// session returns what hands out new session tokens of a user of a MinIO server.
func session(t *testing.T, server *s3test.Server) func() (credentials.Value, error) {
	t.Helper()
	access, secret, err := server.NewUser(t.Context(), []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	return func() (credentials.Value, error) {
		role := credentials.STSAssumeRole{Client: http.DefaultClient, STSEndpoint: server.URL(),
			Options: credentials.STSAssumeRoleOptions{AccessKey: access, SecretKey: secret, DurationSeconds: 900}}
		return role.RetrieveWithCredContext(&credentials.CredContext{Client: http.DefaultClient, Endpoint: server.URL()})
	}
}

// Who is let in by web identity gets a session token from STS, and a new one before it expires, with the token that its
// machine has then.
func TestWebIdentity(t *testing.T) {
	server := start(t, minioHTTP)
	next := session(t, server)
	token := filepath.Join(t.TempDir(), "token")
	put := func(n int64) {
		if err := os.WriteFile(token+".new", []byte(fmt.Sprintf("token %d", n)), 0o600); err != nil {
			t.Error(err)
		}
		if err := os.Rename(token+".new", token); err != nil {
			t.Error(err)
		}
	}
	put(0)
	var asked atomic.Int64
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		_ = r.ParseForm() // what is missing is seen
		if r.Form.Get("Action") != "AssumeRoleWithWebIdentity" || r.Form.Get("WebIdentityToken") != fmt.Sprintf("token %d", n-1) || r.Form.Get("RoleArn") != "arn:aws:iam::1:role/envfs" {
			t.Errorf("request %d to STS: %v", n, r.Form)
		}
		put(n)
		v, err := next()
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
			<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration>
			</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			v.AccessKeyID, v.SecretAccessKey, v.SessionToken, time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano))
	}))
	defer sts.Close()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "MINIO_ROOT_USER", "MINIO_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/envfs")
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	s, err := s3.Open(address(t, server, ""), s3.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Put(t.Context(), nameOf(0), []byte("content")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for asked.Load() < 4 {
		if _, err := s.Get(t.Context(), nameOf(0), 10); err != nil {
			t.Fatalf("after %d session tokens: %v", asked.Load(), err)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%d session tokens in a minute", asked.Load())
		}
	}
}

// refusedFirst hands out a session token that the server refuses, then good ones.
type refusedFirst struct {
	next  func() (credentials.Value, error)
	asked atomic.Int64
}

func (r *refusedFirst) Retrieve() (credentials.Value, error) {
	v, err := r.next()
	if r.asked.Add(1) == 1 {
		v.SessionToken = v.SessionToken[:len(v.SessionToken)-4] + "AAAA"
	}
	return v, err
}

func (r *refusedFirst) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return r.Retrieve()
}

func (r *refusedFirst) IsExpired() bool { return false }

// Credentials that the server refuses, or that it says have expired, are looked for anew; where there are no others the
// error stays what it was.
func TestRefusedCredentials(t *testing.T) {
	server := start(t, minioHTTP)
	provider := &refusedFirst{next: session(t, server)}
	s := open(t, server, address(t, server, ""), s3.Options{Retry: quick, Credentials: credentials.New(provider)})
	if err := s.Put(t.Context(), nameOf(0), []byte("content")); err != nil || provider.asked.Load() != 2 {
		t.Errorf("put: %v, after %d session tokens", err, provider.asked.Load())
	}

	provider = &refusedFirst{next: session(t, server)}
	provider.asked.Store(1)
	expired := ""
	s = open(t, server, address(t, server, ""), s3.Options{Retry: quick, Credentials: credentials.New(provider), Transport: func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			token := r.Header.Get("X-Amz-Security-Token")
			if expired == "" {
				expired = token
			}
			if token == expired {
				return reply(r, 400, "ExpiredToken"), nil
			}
			return next.RoundTrip(r)
		})
	}})
	if err := s.Put(t.Context(), nameOf(0), []byte("content")); err != nil || provider.asked.Load() != 3 || s.Stats().Retries != 1 {
		t.Errorf("put: %v, after %d session tokens and %d more attempts", err, provider.asked.Load(), s.Stats().Retries)
	}
}

// The server's absence is known once it lasts, and told once, as is its return.
func TestOutage(t *testing.T) {
	eachServer(t, func(t *testing.T, b *bench) {
		var away, back []s3.Outage
		f := new(faulty)
		told := false
		left := 5 // requests that are lost once it is told
		s := open(t, b.server, b.address, s3.Options{Retry: quick, OnAway: func(o s3.Outage) {
			if lasted := time.Since(o.Since); lasted < time.Second {
				t.Errorf("it is told after %v", lasted)
			}
			away, told = append(away, o), true
		}, OnBack: func(o s3.Outage) { back = append(back, o) }, Transport: func(next http.RoundTripper) http.RoundTripper {
			f.next = next
			return f
		}})
		f.set(first(3, http.MethodPut, refused))
		if err := s.Put(t.Context(), nameOf(0), nil); err != nil {
			t.Errorf("a few lost requests: %v", err)
		}
		away, back, told = nil, nil, false // unless that took long it is not told
		began := time.Now()
		f.set(func(r *http.Request) fault {
			if told {
				left--
			}
			if left > 0 {
				return refused
			}
			return none
		})
		if err := s.Put(t.Context(), nameOf(1), nil); err != nil {
			t.Error(err)
		}
		if len(away) != 1 || len(back) != 1 || away[0].Cause == "" || !away[0].Since.Equal(back[0].Since) || away[0].Since.Before(began) {
			t.Errorf("away %v, back %v", away, back)
		}
		if _, now := s.Outage(); now {
			t.Error("it is away still")
		}
	})
}

// Who is refused is told so at once before Persist; after it requests wait until the server lets them in again, like in an
// outage. Being allowed to read does not end it where writing is refused.
func TestPersist(t *testing.T) {
	eachServer(t, func(t *testing.T, b *bench) {
		impatient := quick
		impatient.Patience, impatient.Writing = 50*time.Millisecond, time.Hour
		var told []s3.Outage
		f := new(faulty)
		s := open(t, b.server, b.address, s3.Options{Retry: impatient, OnAway: func(o s3.Outage) { told = append(told, o) },
			OnBack: func(o s3.Outage) { told = append(told, o) }, Transport: func(next http.RoundTripper) http.RoundTripper {
				f.next = next
				return f
			}})
		f.set(first(1, http.MethodPut, denied))
		if err := s.Put(t.Context(), nameOf(0), nil); !errors.Is(err, s3.ErrDenied) || s.Stats().Retries > 0 {
			t.Fatalf("before Persist: %v after %d more attempts", err, s.Stats().Retries)
		}
		s.Persist()
		if err := replaceRoot(t, s, "", "1"); err != nil {
			t.Fatal(err)
		}
		f.set(func(r *http.Request) fault {
			if r.Method == http.MethodPut {
				return denied
			}
			return none
		})
		done := make(chan error, 2)
		go func() { done <- s.Put(t.Context(), nameOf(1), []byte("content")) }()
		go func() { done <- replaceRoot(t, s, "1", "2") }()
		began := time.Now()
		for _, away := s.Outage(); !away; _, away = s.Outage() {
			if _, err := s.Get(t.Context(), "root", 10); err != nil {
				t.Fatal(err)
			}
			if time.Since(began) > 2*time.Minute {
				t.Fatal("the refusal is no outage")
			}
		}
		f.set(func(*http.Request) fault { return denied })
		if _, err := s.Get(t.Context(), "root", 10); !errors.Is(err, s3.ErrDenied) {
			t.Errorf("a read that is refused for longer than patience lasts: %v", err)
		}
		f.set(nil)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		b.holds(t, nameOf(1), "content")
		b.holds(t, "root", "2")
		if o, away := s.Outage(); away || len(told) != 2 || told[0].Cause != "the server refuses access" || told[0].Hint == "" {
			t.Errorf("away %v (%v), told %+v", away, o, told)
		}
	})
}
