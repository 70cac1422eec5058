package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/mountpoint"
	"envfs/cmd/envfs/internal/state"
	"envfs/fs"
	"envfs/remote"
)

// mountedBy says that a vault is in use by the daemon that greeted with h.
func mountedBy(h control.Hello) error {
	return hint(fmt.Errorf("%s: %w by %s@%s, process %d, mounted at %s, since %s", h.Store, fs.ErrInUse, h.User, h.Host, h.PID,
		h.Mountpoint, moment(h.Since)), "`envfs unmount %s` ends it; --read-only looks beside it", shellQuote(h.Mountpoint))
}

// lock takes the store for this process, or tells who has it.
func lock(store remote.Local, path string, at state.Places) error {
	err := store.Lock()
	if !errors.Is(err, remote.ErrInUse) {
		return err
	}
	return inUse(path, at)
}

// inUse says who has the store at path, as far as that can be found out.
func inUse(path string, at state.Places) error {
	h, ok := mountpoint.HolderOf(placeOf(path, at))
	if !ok {
		return hint(fmt.Errorf("%s: %w by another process", storeName(path), fs.ErrInUse), "`envfs status` lists what is mounted")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	where := ""
	mounts, err := mountpoint.Envfs()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Source == storeName(path) {
			where += ", mounted at " + m.Path
		}
	}
	return hint(fmt.Errorf("%s: %w by %s@%s, process %d%s, since %s", storeName(path), fs.ErrInUse, h.User, host, h.PID, where, moment(h.Since)),
		"`envfs unmount` ends it; --read-only looks beside it")
}

// writtenError says that another machine has a vault open for writing, and what can be done.
type writtenError struct {
	text string
	err  error
}

func (e *writtenError) Error() string { return e.text }
func (e *writtenError) Unwrap() error { return e.err }

// otherWriter names the store in an error of opening it. If another machine writes to it, it says which one, and what can
// be done.
func otherWriter(path string, err error, now time.Time) error {
	w, ok := errors.AsType[*fs.OtherWriterError](err)
	if !ok {
		return fmt.Errorf("%s: %w", storeName(path), err)
	}
	look := "--read-only only looks"
	if isBucket(path) {
		look = "--follow reads along"
	}
	return &writtenError{fmt.Sprintf("%s is being written by %s@%s since %s, last commit %s ago; %s, --takeover cuts that writer off", shortName(path),
		w.User, w.Host, clockTime(w.Since, now), age(now.Sub(w.LastCommit)), look), err}
}

// shortName is what a store is called where there is no doubt which server is meant.
func shortName(store string) string {
	if !isBucket(store) {
		return store
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(storeName(store), "s3://"), "?")
	return name
}
