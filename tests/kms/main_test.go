// Package kms tests the embedded KMS as its users meet it: the real command in a process of its own, and clients that
// envfs did not write.
package kms

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"golang.org/x/sys/unix"

	"envfs/kms/audit"
	"envfs/tests/command"
)

var binary string

func TestMain(m *testing.M) { os.Exit(command.Main(m, &binary)) }

// kms is a KMS in a directory, and its service while it runs.
type kms struct {
	t      testing.TB
	dir    string
	key    string // the key file that seals it
	access access
	url    string
	cmd    *exec.Cmd
}

type access struct{ id, secret string }

func newKMS(t testing.TB) *kms {
	t.Helper()
	return newKMSIn(t, t.TempDir())
}

// newKMSIn makes a KMS below a directory; its key file lies elsewhere.
func newKMSIn(t testing.TB, home string) *kms {
	t.Helper()
	k := &kms{t: t, dir: filepath.Join(home, "kms"), key: filepath.Join(t.TempDir(), "key")}
	k.run("key", "generate", k.key)
	k.access = accessIn(k.run("kms", "init", k.dir, "--keyfile", k.key))
	t.Cleanup(func() {
		if k.cmd != nil {
			k.stop(unix.SIGKILL)
		}
	})
	return k
}

// run runs the command, which must succeed, and returns what it prints.
func (k *kms) run(args ...string) string {
	k.t.Helper()
	var talk bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Stderr = &talk
	out, err := cmd.Output()
	if err != nil {
		k.t.Fatalf("envfs %s: %v\n%s", strings.Join(args, " "), err, talk.Bytes())
	}
	return string(out)
}

// accessIn returns the access key that the command has printed.
func accessIn(printed string) (a access) {
	for line := range strings.Lines(printed) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		switch name {
		case "AWS_ACCESS_KEY_ID":
			a.id = value
		case "AWS_SECRET_ACCESS_KEY":
			a.secret = value
		}
	}
	return a
}

// start starts the service, and returns when it serves.
func (k *kms) start(flags ...string) {
	k.t.Helper()
	k.cmd = exec.Command(binary, append([]string{"kms", "serve", k.dir, "--keyfile", k.key, "--listen", "127.0.0.1:0"}, flags...)...)
	talk, err := k.cmd.StderrPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	r := bufio.NewReader(talk)
	var said strings.Builder
	for {
		line, err := r.ReadString('\n')
		said.WriteString(line)
		if err != nil {
			k.cmd.Wait()
			k.t.Fatalf("kms serve: %v\n%s", err, said.String())
		}
		if _, at, ok := strings.Cut(line, " at https://"); ok {
			k.url = "https://" + strings.Trim(strings.Fields(at)[0], ".")
			break
		}
	}
	go io.Copy(io.Discard, r)
}

// stop ends the service with a signal, and returns when it is gone.
func (k *kms) stop(sig unix.Signal) {
	k.t.Helper()
	if err := k.cmd.Process.Signal(sig); err != nil {
		k.t.Error(err)
	}
	k.cmd.Wait()
	k.cmd = nil
}

// env is the environment in which clients find the service.
func (k *kms) env(a access) []string {
	return append(os.Environ(), "AWS_ACCESS_KEY_ID="+a.id, "AWS_SECRET_ACCESS_KEY="+a.secret, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_CA_BUNDLE="+filepath.Join(k.dir, "ca.pem"), "AWS_ENDPOINT_URL_KMS="+k.url, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_PAGER=", "HOME="+k.t.TempDir())
}

// http returns a client that trusts the authority of the KMS, and nobody else.
func (k *kms) http() *http.Client {
	k.t.Helper()
	pem, err := os.ReadFile(filepath.Join(k.dir, "ca.pem"))
	if err != nil {
		k.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64}
	k.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// client returns the client of AWS's SDK for Go. It does not try again: tests must see each answer.
func (k *kms) client(a access) *awskms.Client {
	k.t.Helper()
	return awskms.New(awskms.Options{
		BaseEndpoint: aws.String(k.url), Region: "us-east-1", HTTPClient: k.http(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(a.id, a.secret, ""),
	})
}

// entries returns the audit log, whose chain it verifies.
func (k *kms) entries() (all []audit.Entry) {
	k.t.Helper()
	k.run("kms", "audit", "verify", k.dir)
	for line := range strings.Lines(k.run("kms", "audit", "show", k.dir, "--json")) {
		var e audit.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			k.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}
