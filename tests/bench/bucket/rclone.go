package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"envfs/tests/bench/lab"
)

// rclone is `rclone mount` as Debian has it. It writes to a cache of its own and uploads from there, after a second instead
// of its usual five, and 16 files at a time instead of 4. Without any wait git and sqlite fail in it, as a file that is
// being uploaded does not take part in renaming and removing.
type rclone struct {
	remote, point, config, cache string
	control                      string // host:port
	daemon                       *lab.Child
}

// newRclone makes rclone with its own encryption.
func newRclone(e *environment) (peer, error) { return makeRclone(e, "crypt:") }

func makeRclone(e *environment, remote string) (*rclone, error) {
	r := &rclone{remote: remote, point: filepath.Join(e.dir, "mnt"), config: filepath.Join(e.dir, "rclone.conf"), cache: filepath.Join(e.dir, "cache")}
	if err := os.Mkdir(r.point, 0o755); err != nil {
		return nil, err
	}
	obscure := exec.CommandContext(e.ctx, "rclone", "obscure", "a passphrase")
	obscure.Env = lab.Environ()
	secret, err := obscure.Output()
	if err != nil {
		return nil, fmt.Errorf("rclone obscure: %w", err)
	}
	config := fmt.Sprintf(`[bucket]
type = s3
provider = Minio
endpoint = %s
region = us-east-1
access_key_id = %s
secret_access_key = %s

[crypt]
type = crypt
remote = bucket:%s
password = %s
`, e.server.url(), e.server.minio.Access, e.server.minio.Secret, e.bucket, bytes.TrimSpace(secret))
	return r, os.WriteFile(r.config, []byte(config), 0o600)
}

func (r *rclone) mount() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.control = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	cmd := exec.Command("rclone", "mount", r.remote, r.point, "--config", r.config, "--cache-dir", r.cache, "--vfs-cache-mode", "writes",
		"--vfs-write-back", "1s", "--transfers", "16", "--rc", "--rc-no-auth", "--rc-addr", r.control)
	cmd.Env = lab.Environ()
	if r.daemon, err = lab.Start(cmd); err != nil {
		return err
	}
	lab.Until(lab.EndTime, func() bool { return lab.ShowsFUSE(r.point) || r.daemon.Ended() })
	if !lab.ShowsFUSE(r.point) {
		return r.daemon.Failure("mount " + r.point)
	}
	return nil
}

// quiet is how long nothing must have waited: it hears of a file that was closed only when the kernel comes round to it.
const quiet = 300 * time.Millisecond

// safe asks the daemon until nothing waits to be uploaded any more.
func (r *rclone) safe(ctx context.Context) (time.Time, error) {
	since := time.Now()
	for {
		waits, err := r.waits(ctx)
		switch now := time.Now(); {
		case err != nil || waits == 0 && now.Sub(since) >= quiet:
			return since, err
		case waits > 0:
			since = now
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return since, ctx.Err()
		}
	}
}

// waits returns how many files are not uploaded yet.
func (r *rclone) waits(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.control+"/vfs/stats", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var stats struct {
		DiskCache struct{ UploadsInProgress, UploadsQueued int } `json:"diskCache"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("rclone vfs/stats: %s: %w", resp.Status, err)
	}
	return stats.DiskCache.UploadsInProgress + stats.DiskCache.UploadsQueued, nil
}

func (r *rclone) unmount() error {
	ctx, cancel := context.WithTimeout(context.Background(), lab.EndTime)
	defer cancel()
	if _, err := r.safe(ctx); err != nil { // it would not wait by itself
		return err
	}
	if err := lab.UnmountFUSE(r.point, false); err != nil {
		return err
	}
	err := r.daemon.Wait()
	r.daemon = nil
	return err
}

func (r *rclone) forget() error { return os.RemoveAll(r.cache) }
func (r *rclone) root() string  { return r.point }
func (r *rclone) pids() []int   { return []int{r.daemon.PID()} }

func (r *rclone) discard() error {
	err := endDaemon(r.daemon, r.point)
	r.daemon = nil
	return err
}

// endDaemon takes a mount away, and ends its daemon, if it is there.
func endDaemon(daemon *lab.Child, point string) error {
	if daemon == nil {
		return nil
	}
	var err error
	if lab.ShowsFUSE(point) {
		err = lab.UnmountFUSE(point, true)
	}
	lab.Until(5*time.Second, daemon.Ended)
	daemon.Kill()
	return err
}
