package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"envfs/remote"
	"envfs/remote/cache"
	"envfs/remote/s3"
)

// bucketExtent is the length of an extent on a bucket, in blocks: 4 MiB, that of what is sent and fetched at once.
const bucketExtent = 1024

// outlast is how long what is to be written waits for a bucket that is away: work goes on here meanwhile.
const outlast = 365 * 24 * time.Hour

// leastPatience is how long a request is tried, whatever the user says: one that is lost is no outage.
const leastPatience = 2 * time.Second

// firstContact is how long a server may take to answer the first request: an address may be wrong.
const firstContact = 5 * time.Second

// isBucket reports whether a store's address is a bucket's.
func isBucket(store string) bool { return strings.HasPrefix(store, s3.Scheme) }

// storeName is what a store is called: of a bucket without how it is reached. Two spellings of one store have the same.
func storeName(store string) string {
	if a, err := s3.ParseAddress(store); err == nil {
		return a.String()
	}
	return store
}

// openFar opens a bucket without anything in front of it.
func openFar(store string, readOnly bool, patience time.Duration, log *slog.Logger) (*s3.Store, error) {
	a, err := s3.ParseAddress(store)
	if err != nil {
		return nil, err
	}
	retry := s3.DefaultRetry
	retry.Patience, retry.Writing = patience, outlast
	return s3.Open(a, s3.Options{ReadOnly: readOnly, Retry: retry, Version: revision(),
		OnAway: func(o s3.Outage) {
			args := []any{"cause", o.Cause}
			if o.Hint != "" {
				args = append(args, "hint", o.Hint)
			}
			log.Warn("the bucket is away; it will be tried again", args...)
		},
		OnBack: func(o s3.Outage) {
			log.Info("the bucket is back", "away_for", time.Since(o.Since).Round(time.Second).String())
		},
	})
}

// bucket is a store in a bucket, with the state and the cache of this machine in front of it.
type bucket struct {
	*cache.Store
	far *s3.Store
}

// openBucket opens a bucket with the state and the cache of this machine in front of it. To write, the server must show
// that it can keep two writers apart.
func openBucket(ctx context.Context, store string, o openOptions, log *slog.Logger) (_ *bucket, err error) {
	patience := s3.DefaultRetry.Patience
	if o.Wait > 0 {
		patience = max(o.Wait, leastPatience)
	}
	far, err := openFar(store, o.ReadOnly, patience, log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, far.Close())
		}
	}()
	if !o.ReadOnly {
		if err := far.Probe(ctx); errors.Is(err, s3.ErrNoConditions) {
			return nil, hint(fmt.Errorf("%w: %w", remote.ErrReadOnly, err), "--read-only looks at what is there; to write, the vault needs another server")
		} else if errors.Is(err, s3.ErrDenied) {
			return nil, hint(fmt.Errorf("%w: these credentials may not write: %w", remote.ErrReadOnly, err),
				"--read-only looks at what is there; docs/BUCKET.md has the policy that a writer needs")
		} else if err != nil {
			return nil, err
		}
	}
	dirs, err := bucketDirs(store, o.Places)
	if err != nil {
		return nil, err
	}
	if o.Follow { // which has nothing to publish, and is not to take what a writer here has not published for published
		dirs.state += "-follow"
	}
	away := func() bool { _, away := far.Outage(); return away }
	kept := ""
	if !o.ReadOnly {
		kept = dirs.state + keptSuffix
	}
	s, err := cache.Open(far, cache.Options{State: dirs.state, Cache: dirs.cache, Kept: kept, Size: o.CacheSize, StateSize: o.StateSize, Wait: o.Wait, Away: away, Log: log})
	if err != nil {
		return nil, err
	}
	return &bucket{s, far}, nil
}

// bucketAddress returns the one spelling of a bucket's address. Names of files in it become absolute, as the daemon works
// elsewhere.
func bucketAddress(arg string) (string, error) {
	a, err := s3.ParseAddress(arg)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	for _, name := range []*string{&a.CA, &a.SSE.KeyFile} {
		if *name == "" {
			continue
		}
		if *name, err = filepath.Abs(*name); err != nil {
			return "", err
		}
		if _, err := os.Stat(*name); err != nil {
			return "", fmt.Errorf("open %s: %w", a, err)
		}
	}
	return a.Full(), nil
}
