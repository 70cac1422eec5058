package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"envfs/remote/s3/s3test"
)

// server is a MinIO with the proxies in front of it.
type server struct {
	minio   *s3test.Server
	counter *counter
	delay   *delayProxy
	client  *minio.Client // past the proxies
	trace   *os.File
}

// startServer starts a server that keeps its objects below dir.
func startServer(dir, trace string) (_ *server, err error) {
	s := &server{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	var lines io.Writer
	if trace != "" {
		if s.trace, err = os.Create(trace); err != nil {
			return nil, err
		}
		lines = s.trace
	}
	if s.minio, err = s3test.Start(s3test.MinIO, dir, s3test.Options{}); err != nil {
		return nil, err
	}
	if s.client, err = s.minio.Client(); err != nil {
		return nil, err
	}
	if s.counter, err = newCounter(s.minio.Address, lines); err != nil {
		return nil, err
	}
	s.delay, err = newDelayProxy(s.counter.addr)
	return s, err
}

func (s *server) close() error {
	var errs []error
	if s.delay != nil {
		errs = append(errs, s.delay.close())
	}
	if s.counter != nil {
		errs = append(errs, s.counter.close())
	}
	if s.minio != nil {
		s.minio.Kill()
	}
	if s.trace != nil {
		errs = append(errs, s.trace.Close())
	}
	return errors.Join(errs...)
}

// url is the endpoint that peers use.
func (s *server) url() string { return "http://" + s.delay.addr() }

// newBucket makes an empty bucket.
func (s *server) newBucket(ctx context.Context) (string, error) {
	name := "b" + strings.ToLower(rand.Text())
	return name, s.client.MakeBucket(ctx, name, minio.MakeBucketOptions{})
}

// removeBucket removes a bucket with all that is in it.
func (s *server) removeBucket(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also when all is being ended
	defer cancel()
	return s.client.RemoveBucketWithOptions(ctx, name, minio.RemoveBucketOptions{ForceDelete: true})
}

// newClient returns a client of the kind that a program would have, through the proxies.
func (s *server) newClient() (*minio.Client, error) {
	return minio.New(s.delay.addr(), &minio.Options{Creds: s.minio.Credentials(), Region: "us-east-1",
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}})
}
