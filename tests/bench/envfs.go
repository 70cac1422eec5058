package main

import (
	"path/filepath"

	"envfs/tests/command"
)

// envfs is the real command with a vault that a key file opens, so that no key is derived.
type envfs struct {
	vault *command.Vault
	flags []string // of mount
}

func newEnvfs(flags ...string) func(*tools, string) (peer, error) {
	return func(t *tools, dir string) (peer, error) {
		v, err := command.New(t.envfs, filepath.Join(dir, "store"), dir)
		if err != nil {
			return nil, err
		}
		return &envfs{v, flags}, nil
	}
}

func (e *envfs) mount() error   { return e.vault.Mount(e.flags...) }
func (e *envfs) unmount() error { return e.vault.Unmount() }
func (e *envfs) root() string   { return e.vault.Point }
func (e *envfs) pid() int       { return e.vault.PID() }
func (e *envfs) discard() error { return e.vault.Discard() }
