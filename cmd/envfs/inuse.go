package main

import (
	"errors"
	"fmt"
	"os"

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
