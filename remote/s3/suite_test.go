package s3_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"envfs/remote"
	"envfs/remote/remotetest"
	"envfs/remote/s3"
	"envfs/remote/s3/s3test"
)

// shared are the servers that the tests of this package share, each started by the first that wants it.
var shared = struct {
	sync.Mutex
	dir     string
	running map[serverID]*s3test.Server
}{running: make(map[serverID]*s3test.Server)}

type serverID struct {
	kind s3test.Kind
	tls  bool
}

func (id serverID) String() string {
	return string(id.kind) + map[bool]string{false: " over http", true: " over https"}[id.tls]
}

var (
	minioHTTP  = serverID{s3test.MinIO, false}
	minioHTTPS = serverID{s3test.MinIO, true}
	allServers = []serverID{minioHTTP, minioHTTPS, {s3test.VersityGW, false}, {s3test.VersityGW, true}}
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "s3-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared.dir = dir
	defer func() {
		for _, s := range shared.running {
			s.Kill()
		}
	}()
	return m.Run()
}

// start returns a server that the tests share.
func start(t *testing.T, id serverID) *s3test.Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	s := shared.running[id]
	if s == nil {
		var err error
		if s, err = s3test.Start(id.kind, filepath.Join(shared.dir, id.String()), s3test.Options{TLS: id.tls, KMS: id.tls}); err != nil {
			t.Fatal(err)
		}
		shared.running[id] = s
	}
	return s
}

// address returns that of a new, empty vault.
func address(t *testing.T, server *s3test.Server, query string) s3.Address {
	t.Helper()
	bucket, err := server.NewBucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := s3.ParseAddress(server.Location(bucket, "a/vault") + query)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func open(t *testing.T, server *s3test.Server, a s3.Address, o s3.Options) *s3.Store {
	t.Helper()
	if o.Credentials == nil {
		o.Credentials = server.Credentials()
	}
	s, err := s3.Open(a, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // tests may have closed it
	return s
}

func TestSuite(t *testing.T) {
	for _, id := range allServers {
		t.Run(id.String(), func(t *testing.T) {
			server := start(t, id)
			remotetest.Run(t, func(t *testing.T) func() remote.Store {
				a := address(t, server, "")
				return func() remote.Store { return open(t, server, a, s3.Options{}) }
			})
		})
	}
}
