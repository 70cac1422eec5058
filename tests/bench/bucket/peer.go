package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"envfs/tests/bench/lab"
)

// peer is one way to keep files.
type peer interface {
	// mount shows the files at root and returns when they can be used.
	mount() error

	// unmount returns when the daemons have ended, and all is in the bucket.
	unmount() error

	// safe returns when all that was done is in the bucket, with the time when that was so.
	safe(ctx context.Context) (time.Time, error)

	// forget removes what was fetched or can be fetched again, of a peer that is not mounted.
	forget() error

	root() string

	// pids are the daemons' while mounted.
	pids() []int

	// discard ends and unmounts whatever is left, without regard for the files.
	discard() error
}

// durable is a peer that can be mounted so that fsync returns when all is in the bucket.
type durable interface{ mountDurable() error }

// blobs is a peer that keeps no files but a row of objects, the parts of one big file.
type blobs interface {
	put(ctx context.Context, s *site) error
	get(ctx context.Context, s *site) error
}

// group says which steps a peer is asked to do.
type group int

const (
	inBucket  group = iota // all: files in a bucket
	localOnly              // those that are compared with a local directory
	bareOnly               // those of the big file
)

// kind is a peer that can be made.
type kind struct {
	name   string // in flags
	title  string // in the table
	needs  []string
	group  group
	create func(e *environment) (peer, error)
}

// environment is what a peer is made with.
type environment struct {
	ctx    context.Context
	envfs  string // the command
	server *server
	bucket string
	dir    string // of all that belongs to the peer
}

const (
	envfsName          = "envfs"
	envfsLocalName     = "envfs-local"
	gocryptfsLocalName = "gocryptfs-local"
	minioName          = "minio-go"
)

func kinds() []kind {
	return []kind{
		{envfsName, "envfs", nil, inBucket, newEnvfs},
		{"rclone", "rclone crypt", []string{"rclone"}, inBucket, newRclone},
		{"gocryptfs", "gocryptfs on rclone", []string{"rclone", lab.GocryptfsName}, inBucket, newGocryptfsBucket},
		{"s3fs", "s3fs (in clear)", []string{"s3fs"}, inBucket, newS3fs},
		{minioName, "minio-go, 4 MiB objects", nil, bareOnly, newBare},
		{envfsLocalName, "envfs, local store", nil, localOnly, newEnvfsLocal},
		{gocryptfsLocalName, "gocryptfs, local", []string{lab.GocryptfsName}, localOnly, newGocryptfsLocal},
	}
}

func names(kinds []kind) []string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.name)
	}
	return all
}

func kindOf(name string) (kind, bool) {
	all := kinds()
	i := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return all[i], true
}

// installed makes sure that the programs of a peer are there.
func (k *kind) installed() error {
	for _, name := range k.needs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("peer %s: %w; install it (scripts/deps.sh %s) or leave the peer out with -peers", k.name, err, name)
		}
	}
	return nil
}

// local is what peers on a local directory have in common: they have nothing to bring anywhere.
type local struct{}

func (local) safe(context.Context) (time.Time, error) { return time.Now(), nil }
func (local) forget() error                           { return nil }

// gocryptfsLocal is gocryptfs on a local directory.
type gocryptfsLocal struct {
	local
	*lab.Gocryptfs
}

func newGocryptfsLocal(e *environment) (peer, error) {
	store := filepath.Join(e.dir, "store")
	if err := os.Mkdir(store, 0o755); err != nil {
		return nil, err
	}
	g, err := lab.NewGocryptfs(store, e.dir)
	return gocryptfsLocal{Gocryptfs: g}, err
}

func (g gocryptfsLocal) mount() error   { return g.Mount() }
func (g gocryptfsLocal) unmount() error { return g.Unmount() }
func (g gocryptfsLocal) root() string   { return g.Root() }
func (g gocryptfsLocal) pids() []int    { return []int{g.PID()} }
func (g gocryptfsLocal) discard() error { return g.Discard() }

// gocryptfsBucket is gocryptfs with its store on a bucket that rclone mounts, in clear.
type gocryptfsBucket struct {
	*rclone
	over *lab.Gocryptfs
}

func newGocryptfsBucket(e *environment) (peer, error) {
	r, err := makeRclone(e, "bucket:"+e.bucket)
	if err != nil {
		return nil, err
	}
	if err := r.mount(); err != nil {
		return nil, errors.Join(err, r.discard())
	}
	g := &gocryptfsBucket{rclone: r}
	dir := filepath.Join(e.dir, "gocryptfs")
	if err = os.Mkdir(dir, 0o755); err == nil {
		g.over, err = lab.NewGocryptfs(r.root(), dir)
	}
	if err == nil {
		err = r.unmount()
	}
	if err != nil {
		return nil, errors.Join(err, r.discard())
	}
	return g, nil
}

func (g *gocryptfsBucket) mount() error {
	if err := g.rclone.mount(); err != nil {
		return err
	}
	return g.over.Mount()
}

func (g *gocryptfsBucket) unmount() error {
	if err := g.over.Unmount(); err != nil {
		return err
	}
	return g.rclone.unmount()
}

func (g *gocryptfsBucket) root() string { return g.over.Root() }
func (g *gocryptfsBucket) pids() []int  { return append(g.rclone.pids(), g.over.PID()) }

func (g *gocryptfsBucket) discard() error {
	return errors.Join(g.over.Discard(), g.rclone.discard())
}
