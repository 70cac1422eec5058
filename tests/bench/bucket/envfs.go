package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"envfs/tests/command"
)

// envfs is the real command with a vault in the bucket that a key file opens, so that no key is derived.
type envfs struct{ vault *command.Vault }

func newEnvfs(e *environment) (peer, error) {
	store := fmt.Sprintf("s3://%s/vault?endpoint=%s&region=us-east-1", e.bucket, e.server.url())
	v, err := command.New(e.envfs, store, e.dir, "AWS_ACCESS_KEY_ID="+e.server.minio.Access, "AWS_SECRET_ACCESS_KEY="+e.server.minio.Secret)
	if err != nil {
		return nil, err
	}
	return &envfs{v}, nil
}

func (e *envfs) mount() error        { return e.vault.Mount() }
func (e *envfs) mountDurable() error { return e.vault.Mount("--durability=bucket") }
func (e *envfs) unmount() error      { return e.vault.Unmount() }
func (e *envfs) root() string        { return e.vault.Point }
func (e *envfs) pids() []int         { return []int{e.vault.PID()} }
func (e *envfs) discard() error      { return e.vault.Discard() }

func (e *envfs) safe(context.Context) (time.Time, error) {
	r, err := e.vault.Run("sync", e.vault.Point)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("sync: exit code %d: %s", r.Code, r.Talk)
	}
	return time.Now(), err
}

// forget removes the cache. What the state holds besides what is in the bucket anyway stays.
func (e *envfs) forget() error { return os.RemoveAll(filepath.Join(e.vault.Home, "cache")) }

// envfsLocal is the command with a vault in a local directory.
type envfsLocal struct {
	local
	envfs
}

func newEnvfsLocal(e *environment) (peer, error) {
	v, err := command.New(e.envfs, filepath.Join(e.dir, "store"), e.dir)
	if err != nil {
		return nil, err
	}
	return &envfsLocal{envfs: envfs{v}}, nil
}

func (e *envfsLocal) mount() error                                { return e.vault.Mount() }
func (e *envfsLocal) safe(ctx context.Context) (time.Time, error) { return e.local.safe(ctx) }
func (e *envfsLocal) forget() error                               { return e.local.forget() }
