package s3_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
	"github.com/minio/minio-go/v7/pkg/signer"

	"envfs/remote"
	"envfs/remote/s3"
	"envfs/remote/s3/s3test"
)

// What the user has to mend is told apart, and with what to do.
func TestWrongConfiguration(t *testing.T) {
	plain, tls := start(t, minioHTTP), start(t, minioHTTPS)
	bucket, err := plain.NewBucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	static := credentials.NewStaticV4
	for _, c := range []struct {
		address     string
		credentials *credentials.Credentials
		transport   func(http.RoundTripper) http.RoundTripper
		what, hint  string
	}{
		{address: plain.Location("no-such-bucket", "v"), what: "no such bucket", hint: "name"},
		{address: plain.Location(bucket, "v"), credentials: static("nobody", "xxxxxxxx", ""), what: "does not know the access key", hint: "AWS_ACCESS_KEY_ID"},
		{address: plain.Location(bucket, "v"), credentials: static(plain.Access, "xxxxxxxx", ""), what: "secret key is wrong", hint: "AWS_SECRET_ACCESS_KEY"},
		{address: strings.Replace(plain.Location(bucket, "v"), "http://", "https://", 1), what: "does not speak https", hint: "http://"},
		{address: strings.ReplaceAll(tls.Location(bucket, "v"), "&ca=", "&profile="), what: "signed by nobody", hint: "?ca=FILE"},
		{address: strings.Replace(tls.Location(bucket, "v"), "127.0.0.1", "localhost", 1), what: "for another name", hint: "endpoint"},
		{address: plain.Location(bucket, "v"), transport: late, what: "clock", hint: "set the clock"},
	} {
		a, err := s3.ParseAddress(c.address)
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, plain, a, s3.Options{Credentials: c.credentials, Transport: c.transport})
		_, err = s.Get(t.Context(), "root", 10)
		wrong, ok := errors.AsType[*s3.ConfigError](err)
		if !ok || !strings.Contains(err.Error(), c.what) || !strings.Contains(wrong.Advice(), c.hint) {
			t.Errorf("%s: %v; want %q", c.address, err, c.what)
		}
		if n := s.Stats().Retries; n != 0 {
			t.Errorf("%s: tried again %d times", c.address, n)
		}
	}
}

// late sends requests of an hour ago.
func late(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		then := time.Now().UTC().Add(-time.Hour)
		r = r.Clone(r.Context())
		r.Header.Set("X-Amz-Date", then.Format("20060102T150405Z"))
		return next.RoundTrip(r)
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Credentials are found where S3 tools look.
func TestCredentials(t *testing.T) {
	server := start(t, minioHTTP)
	a := address(t, server, "")
	home := t.TempDir()
	clear := func(t *testing.T) {
		t.Setenv("HOME", home)
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_PROFILE",
			"AWS_SHARED_CREDENTIALS_FILE", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"} {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	write := func(name, text string) {
		path := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	try := func(t *testing.T, a s3.Address) error {
		s, err := s3.Open(a, s3.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_, err = s.Get(t.Context(), "root", 10)
		if errors.Is(err, remote.ErrNotExist) {
			return nil
		}
		return err
	}
	t.Run("nowhere", func(t *testing.T) {
		clear(t)
		if err := try(t, a); err == nil || !strings.Contains(err.Error(), "no credentials were found") {
			t.Error(err)
		}
	})
	t.Run("AWS environment", func(t *testing.T) {
		clear(t)
		t.Setenv("AWS_ACCESS_KEY_ID", server.Access)
		t.Setenv("AWS_SECRET_ACCESS_KEY", server.Secret)
		if err := try(t, a); err != nil {
			t.Error(err)
		}
	})
	t.Run("MinIO environment", func(t *testing.T) {
		clear(t)
		t.Setenv("MINIO_ACCESS_KEY", server.Access)
		t.Setenv("MINIO_SECRET_KEY", server.Secret)
		if err := try(t, a); err != nil {
			t.Error(err)
		}
	})
	t.Run("profile", func(t *testing.T) {
		clear(t)
		write(".aws/credentials", "[team]\naws_access_key_id = "+server.Access+"\naws_secret_access_key = "+server.Secret+"\n")
		named := a
		named.Profile = "team"
		if err := try(t, named); err != nil {
			t.Error(err)
		}
		t.Setenv("AWS_PROFILE", "team")
		if err := try(t, a); err != nil {
			t.Error(err)
		}
	})
	t.Run("mc", func(t *testing.T) {
		clear(t)
		write(".mc/config.json", `{"version": "10", "aliases": {
			"other": {"url": "https://play.example", "accessKey": "x", "secretKey": "yyyyyyyy"},
			"mine": {"url": "`+server.URL()+`", "accessKey": "`+server.Access+`", "secretKey": "`+server.Secret+`", "api": "S3v4", "path": "auto"}}}`)
		if err := try(t, a); err != nil {
			t.Error(err)
		}
	})
}

// The server's own encryption is asked for with each object, and without the customer's key nothing is read.
func TestServerSideEncryption(t *testing.T) {
	server := start(t, minioHTTPS)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]map[string]string{
		"&sse=s3": {"X-Amz-Server-Side-Encryption": "AES256"},
		"&sse=kms&sse-key=" + s3test.KMSKeyID + "&sse-context=team=a": {
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "arn:aws:kms:" + s3test.KMSKeyID},
		"&sse=c&sse-key-file=" + key: {"X-Amz-Server-Side-Encryption-Customer-Algorithm": "AES256"},
	} {
		a := address(t, server, query)
		s := open(t, server, a, s3.Options{})
		ctx := t.Context()
		if err := s.Probe(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Put(ctx, nameOf(0), []byte("content")); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(replaceRoot(t, s, "", "1"), replaceRoot(t, s, "1", "2")); err != nil {
			t.Fatal(err)
		}
		var o minio.StatObjectOptions
		if a.SSE.Mode == "c" {
			if o.ServerSideEncryption, err = encrypt.NewSSEC(bytes.Repeat([]byte{7}, 32)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{nameOf(0), "root"} {
			info, err := client.StatObject(ctx, a.Bucket, a.Prefix+"/"+name, o)
			if err != nil {
				t.Fatal(err)
			}
			for header, value := range want {
				if got := info.Metadata.Get(header); got != value {
					t.Errorf("%s: %s has %s %q, want %q", query, name, header, got, value)
				}
			}
			if got, err := s.Get(ctx, name, 10); err != nil || len(got) == 0 {
				t.Errorf("%s: %q, %v", query, got, err)
			}
		}
		if a.SSE.Mode != "c" {
			continue
		}
		a.SSE = s3.SSE{}
		_, err := open(t, server, a, s3.Options{}).Get(ctx, "root", 10)
		if wrong, ok := errors.AsType[*s3.ConfigError](err); !ok || !strings.Contains(wrong.Advice(), "sse-key-file") {
			t.Errorf("without the customer's key: %v", err)
		}
	}
}

// A server that does not honour conditions is told from one that does.
func TestProbe(t *testing.T) {
	for _, id := range allServers {
		server := start(t, id)
		s := open(t, server, address(t, server, ""), s3.Options{Retry: quick})
		if err := s.Probe(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.List(t.Context(), "", func(i remote.Info) error { return errors.New(i.Name + " is left") }); err != nil {
			t.Error(err)
		}
	}
	server := start(t, minioHTTP)
	for _, header := range []string{"If-Match", "If-None-Match"} {
		ignorant := func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				r = r.Clone(r.Context())
				r.Header.Del(header)
				return next.RoundTrip(signer.SignV4(*r, server.Access, server.Secret, "", "us-east-1"))
			})
		}
		s := open(t, server, address(t, server, ""), s3.Options{Transport: ignorant})
		if err := s.Probe(t.Context()); !errors.Is(err, s3.ErrNoConditions) {
			t.Errorf("without %s: %v", header, err)
		}
	}
	f := new(faulty)
	s := open(t, server, address(t, server, ""), s3.Options{Retry: quick, Transport: func(next http.RoundTripper) http.RoundTripper {
		f.next = next
		return f
	}})
	for range 5 {
		n := 0
		f.set(func(r *http.Request) fault { // each reply to a PUT is lost once
			if r.Method == http.MethodPut {
				if n++; n%2 == 1 {
					return lostReply
				}
			}
			return none
		})
		if err := s.Probe(t.Context()); err != nil {
			t.Errorf("with lost replies: %v", err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	server := start(t, minioHTTP)
	a := address(t, server, "")
	s := open(t, server, a, s3.Options{ReadOnly: true})
	for op, err := range map[string]error{
		"put":     s.Put(t.Context(), nameOf(0), nil),
		"delete":  s.Delete(t.Context(), nameOf(0)),
		"replace": replaceRoot(t, s, "", "1"),
		"probe":   s.Probe(t.Context()),
	} {
		if !errors.Is(err, remote.ErrReadOnly) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestUserAgent(t *testing.T) {
	server := start(t, minioHTTP)
	var agent string
	s := open(t, server, address(t, server, ""), s3.Options{Version: "1.2", Transport: func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			agent = r.UserAgent()
			return next.RoundTrip(r)
		})
	}})
	_, _ = s.Get(t.Context(), "root", 10) // there is none
	if !strings.Contains(agent, "envfs/1.2") {
		t.Errorf("user agent %q", agent)
	}
}

// Objects that the bucket keeps although they are deleted are counted, and are no error.
func TestRefusedDeletes(t *testing.T) {
	server := start(t, minioHTTP)
	ctx := t.Context()
	s := open(t, server, address(t, server, ""), s3.Options{Transport: func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodDelete {
				return reply(r, 403, "AccessDenied"), nil
			}
			return next.RoundTrip(r)
		})
	}})
	if err := s.Put(ctx, nameOf(0), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, nameOf(0)); err != nil {
		t.Errorf("delete: %v", err)
	}
	if n := s.Stats().RefusedDeletes; n != 1 {
		t.Errorf("%d refused", n)
	}
}
