package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// endTime is how long a child may take to end once it has no more to do.
const endTime = time.Minute

// child is a process that this one has started and that serves a mount.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; set before done is closed

	mu   sync.Mutex
	said bytes.Buffer // to standard error
}

// start starts cmd in a process group of its own: a Ctrl-C that is meant for this program is not its end, but leaves it
// to this program to unmount first.
func start(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, done: make(chan struct{})}
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
func (c *child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Write(p)
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// failure says that the child ended, or is not doing what it should.
func (c *child) failure(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended() {
		return fmt.Errorf("%s: %s ended: %v: %s", what, c.cmd.Args[0], c.err, bytes.TrimSpace(c.said.Bytes()))
	}
	return fmt.Errorf("%s: %s does not answer: %s", what, c.cmd.Args[0], bytes.TrimSpace(c.said.Bytes()))
}

// wait returns when the child has ended by itself. One that does not is killed, and an error.
func (c *child) wait() error {
	select {
	case <-c.done:
		if c.err != nil {
			return c.failure("wait")
		}
		return nil
	case <-time.After(endTime):
		err := c.failure("wait")
		c.kill()
		return err
	}
}

// kill ends the child, and returns when it has ended.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.done
}
