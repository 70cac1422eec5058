// Package s3test runs real S3 servers for tests: MinIO, and versitygw, another implementation that keeps the objects in
// a directory. scripts/servers.sh builds them.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"envfs/tests/port"
)

// Kind is an implementation.
type Kind string

// The implementations.
const (
	MinIO     Kind = "minio"
	VersityGW Kind = "versitygw"
)

// Options of Start.
type Options struct {
	TLS bool // with a certificate for 127.0.0.1 of an authority of its own
	KMS bool // MinIO's built-in key management
}

// Server is a server process. It ends with Stop or Kill.
type Server struct {
	Kind     Kind
	Dir      string // holds what it keeps
	Address  string // host:port
	TLS      bool
	CA       string // file with the authority's certificate, if TLS
	Access   string
	Secret   string
	LogFile  string
	port     *port.Port
	args     []string
	env      []string
	mu       sync.Mutex
	cmd      *exec.Cmd
	finished chan struct{}
}

// kmsKey is the name and the key of MinIO's built-in KMS. (A value that begins with "env" MinIO takes for an address.)
const kmsKey = "tests:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// KMSKeyID is the one key of a server with Options.KMS.
const KMSKeyID = "tests"

// Start starts a server that keeps its objects below dir and listens on a free port of 127.0.0.1. It serves when Start
// returns.
func Start(kind Kind, dir string, o Options) (*Server, error) {
	binary, err := find(kind)
	if err != nil {
		return nil, err
	}
	at, err := port.Reserve()
	if err != nil {
		return nil, err
	}
	s := &Server{Kind: kind, Dir: filepath.Join(dir, "data"), Address: at.Address(), port: at, TLS: o.TLS,
		Access: "tests-user", Secret: "tests-secret", LogFile: filepath.Join(dir, "log")}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	certs := filepath.Join(dir, "certs")
	if o.TLS {
		if s.CA, err = makeCertificates(certs); err != nil {
			return nil, fmt.Errorf("make certificates: %w", err)
		}
	}
	switch kind {
	case MinIO:
		s.args = []string{binary, "server", "--quiet", "--address", s.Address, "--certs-dir", certs, s.Dir}
		s.env = []string{"MINIO_ROOT_USER=" + s.Access, "MINIO_ROOT_PASSWORD=" + s.Secret, "MINIO_BROWSER=off", "HOME=" + dir,
			"MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off", "PATH=" + os.Getenv("PATH")}
		if o.KMS {
			s.env = append(s.env, "MINIO_KMS_SECRET_KEY="+kmsKey)
		}
	case VersityGW:
		s.args = []string{binary, "--access", s.Access, "--secret", s.Secret, "--port", s.Address, "--quiet"}
		if o.TLS {
			s.args = append(s.args, "--cert", filepath.Join(certs, "public.crt"), "--key", filepath.Join(certs, "private.key"))
		}
		s.args = append(s.args, "posix", s.Dir)
		s.env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	}
	if err := s.Restart(); err != nil {
		return nil, err
	}
	return s, nil
}

// find returns the path of a server's program.
func find(kind Kind) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "bin", string(kind))
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("start %s: bin/%s is missing; run scripts/servers.sh", kind, kind)
		}
	}
}

// NewUser makes a user of a MinIO server who may do what a policy (JSON) says, by bin/minio-admin.
func (s *Server) NewUser(ctx context.Context, policy []byte) (access, secret string, err error) {
	access, secret = "u"+strings.ToLower(rand.Text())[:16], rand.Text()
	return access, secret, s.SetUser(ctx, access, secret, policy)
}

// SetUser gives a user that NewUser has made another secret and policy.
func (s *Server) SetUser(ctx context.Context, access, secret string, policy []byte) error {
	admin, err := find("minio-admin")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, admin, s.Address, access, secret)
	cmd.Env, cmd.Stdin = s.env, bytes.NewReader(policy)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("set user %s: %w: %s", access, err, out)
	}
	return nil
}

// Restart starts the process again, after it has ended.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	log, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.args[0], s.args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // a Ctrl-C is for who has started it
	if err := cmd.Start(); err != nil {
		return err
	}
	finished := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended does not matter
		close(finished)
	}()
	s.cmd, s.finished = cmd, finished
	if err := s.wait(finished); err != nil {
		text, _ := os.ReadFile(s.LogFile)
		return fmt.Errorf("start %s: %w\n%s", s.Kind, err, text)
	}
	return nil
}

// wait asks until the server answers.
func (s *Server) wait(finished <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.answers(ctx) {
			return nil
		}
		select {
		case <-finished:
			return errors.New("it ended")
		case <-ctx.Done():
			return errors.New("it does not answer")
		case <-tick.C:
		}
	}
}

func (s *Server) answers(ctx context.Context) bool {
	if s.Kind == MinIO {
		return s.healthy(ctx)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func (s *Server) healthy(ctx context.Context) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/minio/health/ready", nil)
	if err != nil {
		return false
	}
	resp, err := s.client().Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

// URL is the endpoint.
func (s *Server) URL() string {
	if s.TLS {
		return "https://" + s.Address
	}
	return "http://" + s.Address
}

// Kill ends the process with SIGKILL.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the process.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

func (s *Server) end(signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.cmd.Process.Signal(signal) // it may have ended
	select {
	case <-s.finished:
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		<-s.finished
	}
}
