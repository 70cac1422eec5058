package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"envfs/kms"
	"envfs/kms/seal"
	"envfs/kms/server"
)

// world is a KMS that is being served, in this process.
type world struct {
	t       testing.TB
	dir     string
	admin   *kms.Access
	service *kms.Service
	url     string
	stop    func()
}

func sealer(t testing.TB) *seal.KeyFile {
	t.Helper()
	k, err := seal.NewKeyFile(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newWorld(t testing.TB, o server.Options) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	var err error
	if w.admin, err = kms.Init(t.Context(), w.dir, kms.DefaultConfig, sealer(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.start(o)
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start(o server.Options) {
	w.t.Helper()
	var err error
	if w.service, err = kms.Open(w.t.Context(), w.dir, sealer(w.t), kms.Options{}); err != nil {
		w.t.Fatal(err)
	}
	o.Listen = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan []string, 1), make(chan error, 1)
	go func() { done <- server.New(w.dir, w.service, o).Serve(ctx, func(a []string) { ready <- a }) }()
	select {
	case addresses := <-ready:
		w.url = addresses[0]
	case err := <-done:
		w.t.Fatal(err)
	}
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, w.service.Close()); err != nil {
			w.t.Error(err)
		}
	}
}

// transport trusts the KMS's own authority, and nobody else.
func (w *world) transport() *http.Transport {
	w.t.Helper()
	pem, err := os.ReadFile(kms.CAPath(w.dir))
	if err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		w.t.Fatal("no certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64}
	w.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// client returns AWS's client with an access key.
func (w *world) client(a *kms.Access, change ...func(*awskms.Options)) *awskms.Client {
	return awskms.New(awskms.Options{
		BaseEndpoint: aws.String(w.url), Region: kms.DefaultConfig.Region, HTTPClient: &http.Client{Transport: w.transport()},
		Credentials: credentials.NewStaticCredentialsProvider(a.ID, a.Secret, ""), RetryMaxAttempts: 1,
	}, change...)
}

// local calls the service as its administrator on this machine.
func (w *world) local(action, body string) ([]byte, *kms.Error) {
	c := &kms.Call{Action: action, ID: kms.NewRequestID(), Caller: kms.Caller{ARN: server.LocalName(0), Local: true}}
	return w.service.Do(c, []byte(body))
}

// user makes a user.
func (w *world) user(name string) *kms.Access {
	w.t.Helper()
	reply, err := w.local("CreateUser", `{"Name":"`+name+`"}`)
	if err != nil {
		w.t.Fatal(err)
	}
	var a kms.Access
	unmarshal(w.t, reply, &a)
	return &a
}

func (w *world) key(c *awskms.Client) string {
	w.t.Helper()
	out, err := c.CreateKey(w.t.Context(), &awskms.CreateKeyInput{Description: aws.String("test")})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// code fails the test unless err is AWS's error of a code.
func code(t testing.TB, err error, want string) {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func must[T any](out T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func second[T any](_ T, err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}
