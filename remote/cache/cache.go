// Package cache puts two local directories in front of a store that is far away: the state, which holds what was made here
// and is not published yet, and the cache of what was fetched. Both hold ciphertext only. The state is as precious as the
// vault; the cache may be deleted at any time.
//
//	Create, Append -> state -> Publish -> shared store -> Release: segments from the state to what is kept
//	Put, Replace --------------------------> shared store
//	ReadAt, Get <- state <- kept <- cache <- shared store
package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
	"envfs/remote/dir"
)

// Options of Open.
type Options struct {
	State string // directory of what is not published; made if it is missing
	Cache string // directory of what was fetched; made if it is missing
	Size  int64  // bytes that Cache may hold

	// Kept is a directory of what was published since the last fold, made if it is missing; "": none is kept.
	Kept string

	// StateSize bounds what State and Kept hold, in bytes: who would write more waits. 0: DefaultStateSize, or half of
	// what is free there if that is less.
	StateSize int64

	// Wait is how long somebody waits for the shared store while it is away before being refused. 0: for ever.
	Wait time.Duration

	// Away reports whether the shared store is away; nil: it never is.
	Away func() bool

	Log *slog.Logger // nil: none

	// Disk holds State and Kept. nil: this machine's.
	Disk Disk
}

// The usual values of Options.Size and Options.StateSize.
const (
	DefaultSize      = 10 << 30
	DefaultStateSize = 10 << 30
	MinStateSize     = 32 << 20 // that work can go on with
)

// Store is a shared store with a state and a cache in front of it.
type Store struct {
	far   remote.Store
	state *dir.Store
	at    string // directory of state
	kept  *kept

	asKnown bool // what is kept counts as lying in the shared store

	gauge *gauge
	pages *pages
	runs  *runs
	later *uploads
	ahead *ahead
}

var _ remote.Bounded = (*Store)(nil)

// Open returns the store. It closes far when it is closed, not if Open fails.
func Open(far remote.Store, o Options) (*Store, error) {
	if o.Size == 0 {
		o.Size = DefaultSize
	}
	state, err := o.openState()
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	kept, err := openKept(o.disk(), o.Kept)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open state: %w", err), state.Close())
	}
	gauge, err := newGauge(state, kept, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open state: %w", err), kept.close(), state.Close())
	}
	pages, err := openPages(o.Cache, o.Size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open cache: %w", err), kept.close(), state.Close())
	}
	return &Store{far: far, state: state, at: o.State, kept: kept, gauge: gauge, pages: pages, runs: newRuns(), later: newUploads(far), ahead: newAhead()}, nil
}

// grows reports whether objects of this name are made by Create, and so may lie in the state.
func grows(name string) bool {
	n, err := blockcrypt.ParseName(name)
	return err == nil && (n.Kind == blockcrypt.KindSegment || n.Kind == blockcrypt.KindExtent)
}

func isExtent(name string) bool {
	n, err := blockcrypt.ParseName(name)
	return err == nil && n.Kind == blockcrypt.KindExtent
}

// Location implements remote.Store: that of the shared store.
func (s *Store) Location() string { return s.far.Location() }

// Identity implements remote.Store: that of the shared store.
func (s *Store) Identity(ctx context.Context) ([]byte, error) { return s.far.Identity(ctx) }

// Space implements remote.Store: that of the state, where all that is written lies first.
func (s *Store) Space(ctx context.Context) (remote.Space, error) { return s.state.Space(ctx) }

// Close implements remote.Store. What waits for Sync is given up. Nothing is written to the cache after it has returned.
func (s *Store) Close() error {
	s.ahead.close()
	s.later.close()
	s.pages.close()
	return errors.Join(s.kept.close(), s.state.Close(), s.far.Close())
}
