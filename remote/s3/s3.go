// Package s3 keeps a vault's objects in a bucket of an S3-compatible server, each at its full name below a prefix. Of the
// server it asks conditional PUT (If-None-Match: *, and If-Match with an ETag) and that a read sees what was written
// before it; Probe proves both. Without them it can be read only.
//
// A Put or Replace that has returned is durable, so Sync has nothing to do.
package s3

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"envfs/blockcrypt"
	"envfs/remote"
)

// Options of Open.
type Options struct {
	// ReadOnly refuses everything that would change the store, with remote.ErrReadOnly.
	ReadOnly bool

	// Retry says how patient requests are; the zero value means DefaultRetry.
	Retry Retry

	// Version is told to the server, as envfs/Version.
	Version string

	// Credentials are used instead of those that are found where S3 tools look.
	Credentials *credentials.Credentials

	// Transport, if set, is put in front of the transport that sends the requests.
	Transport func(http.RoundTripper) http.RoundTripper

	// OnAway and OnBack are called once when the server goes away, and when it answers again. They must not use the store.
	OnAway, OnBack func(Outage)
}

// Store is a remote.Store in a bucket.
type Store struct {
	core     *minio.Core
	creds    *credentials.Credentials
	address  Address
	prefix   string // before each name: "" or ends with a slash
	put, get encrypt.ServerSide
	retry    Retry
	readOnly bool
	closed   atomic.Bool
	persists atomic.Bool
	idle     func() // ends connections that are not in use
	count    counters
	reach    reach

	mu    sync.Mutex
	known map[string]version // of the replaced objects: what was last seen of them
}

var _ remote.Store = (*Store)(nil)

// version tells one content of an object from others.
type version struct {
	etag string
	hash [sha256.Size]byte
}

// Open returns the store at an address. It sends no request.
func Open(a Address, o Options) (*Store, error) {
	s, err := open(a, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", a, err)
	}
	return s, nil
}

func open(a Address, o Options) (*Store, error) {
	if o.Retry == (Retry{}) {
		o.Retry = DefaultRetry
	}
	s := &Store{address: a, retry: o.Retry, readOnly: o.ReadOnly, known: make(map[string]version)}
	s.reach.onAway, s.reach.onBack = o.OnAway, o.OnBack
	if a.Prefix != "" {
		s.prefix = a.Prefix + "/"
	}
	var err error
	if s.put, s.get, err = a.SSE.headers(); err != nil {
		return nil, err
	}
	if o.Credentials == nil {
		o.Credentials = findCredentials(a)
	}
	s.creds = o.Credentials
	base, err := newTransport(a.CA)
	if err != nil {
		return nil, err
	}
	s.idle = base.CloseIdleConnections
	var transport http.RoundTripper = base
	if o.Transport != nil {
		transport = o.Transport(transport)
	}
	s.core, err = minio.NewCore(a.Endpoint, &minio.Options{
		Creds:           o.Credentials,
		Secure:          !a.Plain,
		Transport:       &counting{next: transport, count: &s.count},
		Region:          a.Region,
		BucketLookup:    lookup(a.PathStyle),
		TrailingHeaders: true,
		MaxRetries:      1, // a reply that was lost is to be known: see write.go
	})
	if err != nil {
		return nil, err
	}
	if o.Version == "" {
		o.Version = "devel"
	}
	s.core.SetAppInfo("envfs", o.Version)
	return s, nil
}

// Persist has requests wait, as for a server that does not answer, where ConfigError.Passing says that the cause may pass:
// the credentials have expired, a policy or a certificate was changed. It is for a store that has been in use, as at first
// contact such an error is the user's to mend at once. Credentials are looked for anew before each attempt.
func (s *Store) Persist() { s.persists.Store(true) }

func lookup(pathStyle string) minio.BucketLookupType {
	switch pathStyle {
	case "true":
		return minio.BucketLookupPath
	case "false":
		return minio.BucketLookupDNS
	}
	return minio.BucketLookupAuto
}

// Location implements remote.Store.
func (s *Store) Location() string { return s.address.String() }

// Identity implements remote.Store: endpoint, bucket and prefix, hashed.
func (s *Store) Identity(ctx context.Context) ([]byte, error) {
	if _, err := s.Size(ctx, blockcrypt.RootName); err != nil {
		return nil, fmt.Errorf("identify store: %w", err)
	}
	return s.identity(), nil
}

func (s *Store) identity() []byte {
	id := sha256.Sum256([]byte("s3\x00" + s.address.Endpoint + "\x00" + s.address.Bucket + "\x00" + s.address.Prefix))
	return id[:]
}

// unlimited is told of a bucket's capacity, which has no bounds that the protocol could tell.
const unlimited = 1 << 60

// Space implements remote.Store.
func (s *Store) Space(ctx context.Context) (remote.Space, error) {
	if err := s.ready(ctx); err != nil {
		return remote.Space{}, fmt.Errorf("space of %s: %w", s.address, err)
	}
	return remote.Space{Total: unlimited, Free: unlimited, Available: unlimited, Files: unlimited, FreeFiles: unlimited}, nil
}

// Sync implements remote.Store.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("sync %s: %w", s.address, err)
	}
	return nil
}

// Close implements remote.Store.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.idle()
	return nil
}

var errClosed = errors.New("store is closed")

// ready returns why nothing can be asked of the server now.
func (s *Store) ready(ctx context.Context) error {
	if s.closed.Load() {
		return errClosed
	}
	return ctx.Err()
}

func (s *Store) key(name string) string { return s.prefix + name }
