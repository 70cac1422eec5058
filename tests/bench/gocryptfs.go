package main

import (
	"os"
	"path/filepath"

	"envfs/tests/bench/lab"
)

// gocryptfs is a peer.
type gocryptfs struct{ *lab.Gocryptfs }

func newGocryptfs(_ *tools, dir string) (peer, error) {
	store := filepath.Join(dir, "store")
	if err := os.Mkdir(store, 0o755); err != nil {
		return nil, err
	}
	g, err := lab.NewGocryptfs(store, dir)
	return gocryptfs{g}, err
}

func (g gocryptfs) mount() error   { return g.Mount() }
func (g gocryptfs) unmount() error { return g.Unmount() }
func (g gocryptfs) root() string   { return g.Root() }
func (g gocryptfs) pid() int       { return g.PID() }
func (g gocryptfs) discard() error { return g.Discard() }
