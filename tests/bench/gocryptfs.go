package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const gocryptfsName = "gocryptfs"

// gocryptfs is gocryptfs as Debian has it, with its defaults. Only the derivation of the key is made cheap: it takes
// place in the daemon, and is not what the daemon's memory is measured for. It is not given -allow_other, which as root
// would have it switch users for each file that it makes, at several times the cost.
type gocryptfs struct {
	store, point, pass string
	daemon             *child
}

func newGocryptfs(_ *tools, dir string) (peer, error) {
	g := &gocryptfs{store: filepath.Join(dir, "store"), point: filepath.Join(dir, "mnt"), pass: filepath.Join(dir, "pass")}
	for _, d := range []string{g.store, g.point} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(g.pass, []byte("a passphrase\n"), 0o600); err != nil {
		return nil, err
	}
	out, err := exec.Command(gocryptfsName, "-init", "-q", "-scryptn", "10", "-passfile", g.pass, g.store).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("gocryptfs -init: %w: %s", err, bytes.TrimSpace(out))
	}
	return g, nil
}

func (g *gocryptfs) mount() error {
	cmd := exec.Command(gocryptfsName, "-fg", "-q", "-nosyslog", "-passfile", g.pass, g.store, g.point)
	var err error
	if g.daemon, err = start(cmd); err != nil {
		return err
	}
	until(endTime, func() bool { return showsFUSE(g.point) || g.daemon.ended() })
	if !showsFUSE(g.point) {
		return g.daemon.failure("mount " + g.point)
	}
	return nil
}

func (g *gocryptfs) unmount() error {
	if err := unmountFUSE(g.point, false); err != nil {
		return err
	}
	err := g.daemon.wait()
	g.daemon = nil
	return err
}

func (g *gocryptfs) root() string { return g.point }

func (g *gocryptfs) pid() int { return g.daemon.cmd.Process.Pid }

func (g *gocryptfs) discard() error {
	if g.daemon == nil {
		return nil
	}
	var err error
	if showsFUSE(g.point) {
		err = unmountFUSE(g.point, true)
	}
	until(5*time.Second, g.daemon.ended)
	g.daemon.kill()
	g.daemon = nil
	return err
}
