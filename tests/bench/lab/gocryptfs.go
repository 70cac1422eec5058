package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// GocryptfsName is the program.
const GocryptfsName = "gocryptfs"

// Gocryptfs is gocryptfs as Debian has it, with its defaults. Only the derivation of the key is made cheap: it takes
// place in the daemon, and is not what the daemon's memory is measured for. It is not given -allow_other, which as root
// would have it switch users for each file that it makes, at several times the cost.
type Gocryptfs struct {
	store, point, pass string
	daemon             *Child
}

// NewGocryptfs makes an empty store in the empty directory store, and what else it needs below dir.
func NewGocryptfs(store, dir string) (*Gocryptfs, error) {
	g := &Gocryptfs{store: store, point: filepath.Join(dir, "mnt"), pass: filepath.Join(dir, "pass")}
	if err := os.Mkdir(g.point, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(g.pass, []byte("a passphrase\n"), 0o600); err != nil {
		return nil, err
	}
	out, err := exec.Command(GocryptfsName, "-init", "-q", "-scryptn", "10", "-passfile", g.pass, g.store).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("gocryptfs -init: %w: %s", err, bytes.TrimSpace(out))
	}
	return g, nil
}

// Mount shows the files.
func (g *Gocryptfs) Mount() error {
	cmd := exec.Command(GocryptfsName, "-fg", "-q", "-nosyslog", "-passfile", g.pass, g.store, g.point)
	var err error
	if g.daemon, err = Start(cmd); err != nil {
		return err
	}
	Until(EndTime, func() bool { return ShowsFUSE(g.point) || g.daemon.Ended() })
	if !ShowsFUSE(g.point) {
		return g.daemon.Failure("mount " + g.point)
	}
	return nil
}

// Unmount returns when the daemon has ended.
func (g *Gocryptfs) Unmount() error {
	if err := UnmountFUSE(g.point, false); err != nil {
		return err
	}
	err := g.daemon.Wait()
	g.daemon = nil
	return err
}

// Root is where the files show.
func (g *Gocryptfs) Root() string { return g.point }

// PID is the daemon's while it is mounted.
func (g *Gocryptfs) PID() int { return g.daemon.PID() }

// Discard ends and unmounts whatever is left.
func (g *Gocryptfs) Discard() error {
	if g.daemon == nil {
		return nil
	}
	var err error
	if ShowsFUSE(g.point) {
		err = UnmountFUSE(g.point, true)
	}
	Until(5*time.Second, g.daemon.Ended)
	g.daemon.Kill()
	g.daemon = nil
	return err
}
