package main

import (
	"os"
	"path/filepath"
	"slices"

	"envfs/tests/bench/lab"
)

// peer is one way to keep files below a directory.
type peer interface {
	// mount shows the files at root and returns when they can be used.
	mount() error

	// unmount returns when the daemon has ended, and with it all that it does by itself.
	unmount() error

	root() string

	// pid is the daemon's while mounted, 0 if there is none.
	pid() int

	// discard ends and unmounts whatever is left, without regard for the files.
	discard() error
}

// kind is a peer that can be made.
type kind struct {
	name   string // in flags
	title  string // in the table
	keeps  bool   // it keeps what is written
	create func(t *tools, dir string) (peer, error)
}

// tools are what peers are made with.
type tools struct {
	envfs string // the command
	self  string // this program
}

func kinds() []kind {
	return []kind{
		{"bare", "bare", true, newBare},
		{lab.GocryptfsName, lab.GocryptfsName, true, newGocryptfs},
		{"envfs", "envfs", true, newEnvfs()},
		{"envfs-writeback", "envfs --writeback", true, newEnvfs("--writeback")},
		{"empty", "empty", false, newEmpty()},
		{"empty-writeback", "empty, writeback", false, newEmpty(writebackFlag)},
	}
}

func kindOf(name string) (kind, bool) {
	all := kinds()
	i := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return all[i], true
}

// bare is a plain directory.
type bare struct{ dir string }

func newBare(_ *tools, dir string) (peer, error) {
	b := bare{filepath.Join(dir, "files")}
	return b, os.Mkdir(b.dir, 0o755)
}

func (bare) mount() error   { return nil }
func (bare) unmount() error { return nil }
func (b bare) root() string { return b.dir }
func (bare) pid() int       { return 0 }
func (bare) discard() error { return nil }
