// Package bucket tests vaults in a bucket: the real command on a real MinIO.
package bucket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"envfs/remote/s3/s3test"
	"envfs/tests/command"
)

var binary string

func TestMain(m *testing.M) { os.Exit(command.Main(m, &binary)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a server with a bucket, in which a vault lies.
type rig struct {
	t      *testing.T
	server *s3test.Server
	bucket string
	*command.Vault
}

// newRig starts a server of its own, as tests kill it, and makes a vault.
func newRig(t *testing.T) *rig {
	t.Helper()
	server, err := s3test.Start(s3test.MinIO, t.TempDir(), s3test.Options{})
	must(t, err)
	t.Cleanup(server.Kill)
	r := &rig{t: t, server: server}
	r.bucket, err = server.NewBucket(t.Context())
	must(t, err)
	r.Vault, err = command.New(binary, server.Location(r.bucket, "team/vault"), t.TempDir(),
		"AWS_ACCESS_KEY_ID="+server.Access, "AWS_SECRET_ACCESS_KEY="+server.Secret)
	must(t, err)
	r.tidy(r.Vault)
	return r
}

// tidy takes a vault's mount away at the end of the test, and shows its log if that has failed.
func (r *rig) tidy(v *command.Vault) {
	r.t.Cleanup(func() {
		if r.t.Failed() {
			log, err := v.Log()
			r.t.Logf("log of the daemon (%v):\n%s", err, log[max(0, len(log)-8000):])
		}
		if err := v.Discard(); err != nil {
			r.t.Error(err)
		}
	})
}

// elsewhere returns the vault as another machine sees it.
func (r *rig) elsewhere() *command.Vault {
	r.t.Helper()
	v, err := r.Elsewhere(r.t.TempDir())
	must(r.t, err)
	r.tidy(v)
	return v
}

// sync has all published.
func (r *rig) sync() {
	r.t.Helper()
	res, err := r.Run("sync", r.Point)
	must(r.t, err)
	if res.Code != 0 {
		r.t.Fatalf("sync: %d: %s", res.Code, res.Talk)
	}
}

func (r *rig) restart() {
	r.t.Helper()
	must(r.t, r.server.Restart())
}

// fill writes files of many sizes below a directory of the mount.
func fill(t *testing.T, dir string, count int) map[string][]byte {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	files := make(map[string][]byte)
	for i := range count {
		name := filepath.Join(dir, fmt.Sprintf("file%d", i))
		data := bytes.Repeat([]byte(fmt.Sprintf("plain text %d\n", i)), 1+i*i*7%20_000)
		must(t, os.WriteFile(name, data, 0o644))
		files[fmt.Sprintf("file%d", i)] = data
	}
	return files
}

func compare(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
		}
	}
}

// each calls fn for every object of the bucket.
func (r *rig) each(fn func(name string, data []byte)) {
	r.t.Helper()
	c, err := r.server.Client()
	must(r.t, err)
	for o := range c.ListObjectsIter(r.t.Context(), r.bucket, minio.ListObjectsOptions{Recursive: true}) {
		must(r.t, o.Err)
		body, err := c.GetObject(context.Background(), r.bucket, o.Key, minio.GetObjectOptions{})
		must(r.t, err)
		data, err := io.ReadAll(body)
		must(r.t, err)
		fn(strings.TrimPrefix(o.Key, "team/vault/"), data)
	}
}

func system(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}
