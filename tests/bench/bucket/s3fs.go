package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"envfs/tests/bench/lab"
)

// s3fs is s3fs as Debian has it, which does not encrypt. What it keeps between mounts is nothing: a file is uploaded when
// it is closed.
type s3fs struct {
	bucket, url, point, secret, temp string
	daemon                           *lab.Child
}

func newS3fs(e *environment) (peer, error) {
	s := &s3fs{bucket: e.bucket, url: e.server.url(), point: filepath.Join(e.dir, "mnt"), secret: filepath.Join(e.dir, "secret"), temp: filepath.Join(e.dir, "tmp")}
	for _, dir := range []string{s.point, s.temp} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return s, os.WriteFile(s.secret, []byte(e.server.minio.Access+":"+e.server.minio.Secret+"\n"), 0o600)
}

func (s *s3fs) mount() error {
	cmd := exec.Command("s3fs", s.bucket, s.point, "-f", "-o", fmt.Sprintf("url=%s,use_path_request_style,passwd_file=%s,tmpdir=%s,parallel_count=16", s.url, s.secret, s.temp))
	var err error
	cmd.Env = lab.Environ()
	if s.daemon, err = lab.Start(cmd); err != nil {
		return err
	}
	lab.Until(lab.EndTime, func() bool { return lab.ShowsFUSE(s.point) || s.daemon.Ended() })
	if !lab.ShowsFUSE(s.point) {
		return s.daemon.Failure("mount " + s.point)
	}
	return nil
}

func (s *s3fs) unmount() error {
	if err := lab.UnmountFUSE(s.point, false); err != nil {
		return err
	}
	err := s.daemon.Wait()
	s.daemon = nil
	return err
}

func (*s3fs) safe(context.Context) (time.Time, error) { return time.Now(), nil }
func (*s3fs) forget() error                           { return nil }
func (s *s3fs) root() string                          { return s.point }
func (s *s3fs) pids() []int                           { return []int{s.daemon.PID()} }

func (s *s3fs) discard() error {
	err := endDaemon(s.daemon, s.point)
	s.daemon = nil
	return err
}
