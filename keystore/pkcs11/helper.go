package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"envfs/keystore"
	"envfs/keystore/pkcs11/wire"
)

// Program is the name of the helper program.
const Program = "envfs-pkcs11"

// parting is how long the helper has to log out.
const parting = 3 * time.Second

// helper is the running helper program.
type helper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser
	say tail
}

// exchange makes one request of the helper, which it starts if it does not run. If ctx ends first, or the module takes
// longer than patience, the helper is ended: only so does a call of the module end that hangs.
func (m *Module) exchange(ctx context.Context, q wire.Request) (r wire.Reply, err error) {
	if err := ctx.Err(); err != nil {
		return r, context.Cause(ctx)
	}
	if m.helper == nil {
		if m.helper, err = start(m.path); err != nil {
			return r, err
		}
	}
	h := m.helper
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	spare := context.AfterFunc(limited, func() { _ = h.cmd.Process.Kill() })
	defer spare()
	if err = wire.Write(h.in, q); err == nil {
		err = wire.Read(h.out, &r)
	}
	if err == nil && !spare() { // it was killed, whatever it said before
		err = limited.Err()
	}
	if err == nil {
		return r, nil
	}
	clear(r.MAC)
	said := m.stop()
	switch {
	case ctx.Err() != nil:
		return wire.Reply{}, context.Cause(ctx)
	case limited.Err() != nil:
		return wire.Reply{}, fmt.Errorf("module %s: %w: no answer in %v", m.path, keystore.ErrAway, patience)
	case said != "":
		return wire.Reply{}, fmt.Errorf("module %s: %w: %s", m.path, keystore.ErrAway, said)
	}
	return wire.Reply{}, fmt.Errorf("module %s: %w: the helper program ended: %w", m.path, keystore.ErrAway, err)
}

// start starts the helper for the module at path.
func start(path string) (*helper, error) {
	program, err := find()
	if err != nil {
		return nil, err
	}
	h := &helper{cmd: exec.Command(program, path)}
	h.cmd.Stderr = &h.say
	h.cmd.WaitDelay = patience
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if h.out, err = h.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return h, nil
}

// stop ends the helper, if it runs, and returns what it said last.
func (m *Module) stop() string {
	if m.helper == nil {
		return ""
	}
	h := m.helper
	m.helper = nil
	_ = h.in.Close() // which ends it, unless the module keeps it
	late := time.AfterFunc(parting, func() { _ = h.cmd.Process.Kill() })
	defer late.Stop()
	_ = h.cmd.Wait()
	return h.say.last()
}

// find returns where the helper program lies: beside this one, in ../libexec/envfs, or on the PATH.
func find() (string, error) {
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(self)
		for _, name := range []string{filepath.Join(dir, Program), filepath.Join(dir, "..", "libexec", "envfs", Program)} {
			if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 {
				return name, nil
			}
		}
	}
	name, err := exec.LookPath(Program)
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return "", fmt.Errorf("the helper program %s, which loads PKCS#11 modules, is neither beside envfs nor in ../libexec/envfs nor on the PATH: install it", Program)
	}
	return name, err
}

// tail keeps the end of what is written to it. It is safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	data []byte
}

const maxTail = 1 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - maxTail; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
	}
	return len(p), nil
}

// last returns the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.data), []byte("\n"))
	return strings.ToValidUTF8(string(bytes.TrimSpace(lines[len(lines)-1])), "?")
}
