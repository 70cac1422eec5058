package lab

import (
	"bytes"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// EndTime is how long a Child may take to end once it has no more to do.
const EndTime = time.Minute

// Child is a process that this one has started and that serves a mount.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; set before done is closed

	mu   sync.Mutex
	said bytes.Buffer // to standard error
}

// Start starts cmd in a process group of its own: a Ctrl-C that is meant for this program is not its end, but leaves it
// to this program to unmount first.
func Start(cmd *exec.Cmd) (*Child, error) {
	c := &Child{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = c
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Args[0], err)
	}
	go func() {
		defer close(c.done)
		c.err = cmd.Wait()
	}()
	return c, nil
}

// Write takes what the child says.
func (c *Child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Write(p)
}

// Ended reports whether the child has ended.
func (c *Child) Ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Failure says that the child ended, or is not doing what it should.
func (c *Child) Failure(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Ended() {
		return fmt.Errorf("%s: %s ended: %v: %s", what, c.cmd.Args[0], c.err, bytes.TrimSpace(c.said.Bytes()))
	}
	return fmt.Errorf("%s: %s does not answer: %s", what, c.cmd.Args[0], bytes.TrimSpace(c.said.Bytes()))
}

// Wait returns when the child has ended by itself. One that does not is killed, and an error.
func (c *Child) Wait() error {
	select {
	case <-c.done:
		if c.err != nil {
			return c.Failure("wait")
		}
		return nil
	case <-time.After(EndTime):
		err := c.Failure("wait")
		c.Kill()
		return err
	}
}

// Kill ends the child, and returns when it has ended.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.done
}

// PID returns the id of the process.
func (c *Child) PID() int { return c.cmd.Process.Pid }
