// Package server brings calls to a KMS: over HTTPS, and over HTTP on Unix sockets, in the protocol of AWS KMS
// (x-amz-json-1.1, https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html). Requests are signed with Signature
// Version 4; those at the socket of who administers the KMS on its machine are not.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"envfs/kms"
	"envfs/kms/sigv4"
)

const (
	// Skew is how far the clock of a client may be from that of the server.
	Skew = 5 * time.Minute
	// strangersPerSecond is how many refused requests of one address are logged one by one.
	strangersPerSecond = 20
	maxConnections     = 4096
	sweepEvery         = time.Minute
	// stopWait is how long requests that were begun may take when the server is told to end.
	stopWait = 10 * time.Second
)

// AdminSocket returns the path of the socket at which the KMS in dir is administered while it is served.
func AdminSocket(dir string) string { return filepath.Join(dir, "admin.sock") }

// Options say how a server runs.
type Options struct {
	Listen string   // address for HTTPS; "": none
	Socket string   // path of a Unix socket for HTTP; "": none
	Names  []string // further names and addresses under which clients reach it
	Rate   int      // calls of one user a second; 0: no limit
	Now    func() time.Time
	Log    *slog.Logger
}

// Server serves one KMS.
type Server struct {
	dir       string
	service   *kms.Service
	verifier  *sigv4.Verifier
	options   Options
	users     *throttle
	strangers *throttle

	certificateMu sync.Mutex
	certificate   *tls.Certificate
}

// New returns a server of the KMS in dir, which s is.
func New(dir string, s *kms.Service, o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		dir: dir, service: s, options: o,
		verifier:  &sigv4.Verifier{Region: s.Config().Region, Service: "kms", Skew: Skew, Secret: s.Secret},
		users:     newThrottle(o.Rate, o.Rate),
		strangers: newThrottle(strangersPerSecond, strangersPerSecond),
	}
}

// endpoint is a place where requests come in.
type endpoint struct {
	name     string
	listener net.Listener
	server   *http.Server
}

// Serve serves until ctx ends, and returns when all requests that were begun are answered. ready is called with the
// addresses of HTTPS and HTTP when requests are taken.
func (s *Server) Serve(ctx context.Context, ready func(addresses []string)) error {
	endpoints, err := s.listen()
	if err != nil {
		return err
	}
	failed := make(chan error, len(endpoints))
	var names []string
	for _, e := range endpoints {
		go func() {
			if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", e.name, err)
			}
		}()
		names = append(names, e.name)
	}
	ready(names[1:])
	err = s.tend(ctx, failed)
	stop, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	for _, e := range endpoints {
		if serr := e.server.Shutdown(stop); serr != nil {
			err = errors.Join(err, serr, e.server.Close())
		}
	}
	s.report(0)
	return err
}

// tend does what is due now and then, until ctx ends or an endpoint fails.
func (s *Server) tend(ctx context.Context, failed <-chan error) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.service.Sweep(); err != nil {
			s.options.Log.Error("keys that are due", "error", err)
		}
		s.report(logEvery)
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
		}
	}
}

// report logs refusals that were counted, and not logged for that long.
func (s *Server) report(wait time.Duration) {
	now := s.options.Now()
	s.strangers.overdue(now, wait, func(source string, n int) {
		s.service.Refuse(&kms.Call{ID: kms.NewRequestID(), Source: source}, throttled(), n-1)
	})
	s.users.overdue(now, wait, func(user string, n int) {
		s.service.Refuse(&kms.Call{ID: kms.NewRequestID(), Caller: kms.Caller{ARN: user}}, throttled(), n-1)
	})
}

// listen opens all endpoints; the first is that of the administrator.
func (s *Server) listen() (all []endpoint, err error) {
	defer func() {
		if err != nil {
			for _, e := range all {
				e.listener.Close()
			}
		}
	}()
	self := os.Geteuid()
	l, err := listenUnix(AdminSocket(s.dir), 0o600, func(uid int) bool { return uid == self || uid == 0 }, s.options.Log)
	if err != nil {
		return all, err
	}
	admin := s.endpoint("the administrator's socket", l, s.admin)
	admin.server.WriteTimeout = 0 // a backup takes as long as it takes
	all = append(all, admin)
	if s.options.Listen != "" {
		l, err := net.Listen("tcp", s.options.Listen)
		if err != nil {
			return all, fmt.Errorf("listen: %w", err)
		}
		name := "https://" + l.Addr().String()
		all = append(all, s.endpoint(name, tls.NewListener(limit(l, maxConnections), s.tls()), s.api))
	}
	if s.options.Socket != "" {
		l, err := listenUnix(s.options.Socket, 0o660, func(int) bool { return true }, s.options.Log)
		if err != nil {
			return all, err
		}
		all = append(all, s.endpoint(s.options.Socket, limit(l, maxConnections), s.api))
	}
	return all, nil
}

func (s *Server) endpoint(name string, l net.Listener, h http.HandlerFunc) endpoint {
	return endpoint{name, l, &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
	}}
}

// tls is how HTTPS is spoken: HTTP/1.1, as AWS KMS does.
func (s *Server) tls() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.currentCertificate() },
	}
}

// currentCertificate returns a certificate that is valid for a good while.
func (s *Server) currentCertificate() (*tls.Certificate, error) {
	s.certificateMu.Lock()
	defer s.certificateMu.Unlock()
	now := s.options.Now()
	if c := s.certificate; c != nil && c.Leaf.NotAfter.Sub(now) > c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/3 {
		return c, nil
	}
	c, err := s.service.Authority().Issue(s.names(), now)
	if err != nil {
		return nil, err
	}
	s.certificate = c
	return c, nil
}

// names returns the names under which clients may reach this server.
func (s *Server) names() []string {
	names := append([]string{"localhost", "127.0.0.1", "::1"}, s.options.Names...)
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	if host, _, err := net.SplitHostPort(s.options.Listen); err == nil && host != "" {
		names = append(names, host)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
