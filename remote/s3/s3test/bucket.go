package s3test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// client returns an HTTP client that trusts the server.
func (s *Server) client() *http.Client { return &http.Client{Transport: s.transport()} }

func (s *Server) transport() *http.Transport {
	t := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	if pem, err := os.ReadFile(s.CA); err == nil {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem)
	}
	return t
}

// Client returns a client with all rights.
func (s *Server) Client() (*minio.Client, error) {
	return minio.New(s.Address, &minio.Options{Creds: s.Credentials(), Secure: s.TLS, Transport: s.transport(), Region: "us-east-1"})
}

// Credentials are those of who may do everything.
func (s *Server) Credentials() *credentials.Credentials {
	return credentials.NewStaticV4(s.Access, s.Secret, "")
}

// NewBucket makes a bucket.
func (s *Server) NewBucket(ctx context.Context) (string, error) {
	c, err := s.Client()
	if err != nil {
		return "", err
	}
	name := "b" + strings.ToLower(rand.Text())
	return name, c.MakeBucket(ctx, name, minio.MakeBucketOptions{})
}

// Location is the address of a vault in a bucket of the server.
func (s *Server) Location(bucket, prefix string) string {
	query := "?endpoint=" + s.URL() + "&region=us-east-1"
	if s.CA != "" {
		query += "&ca=" + s.CA
	}
	return fmt.Sprintf("s3://%s/%s%s", bucket, prefix, query)
}
