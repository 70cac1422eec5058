package fusefs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// caller is the context of a request that may have to wait for the store: it ends when the program that has made the
// request is dying, and so nobody sees the EINTR. The kernel tells of the first signal only, whichever it is and
// whether or not it ends the program, so from then on it is looked which signals wait to be taken.
type caller struct {
	context.Context
	thread      uint32 // as this process sees it; 0: it is in another PID namespace
	interrupted <-chan struct{}

	mu    sync.Mutex
	done  chan struct{} // nil: nobody has asked for it
	over  chan struct{} // closed by end; nil as long as done is
	dying bool
}

// lookEvery is how often it is looked whether a program that was interrupted is dying.
const lookEvery = 100 * time.Millisecond

// caller returns the context of a request, whose end is to be called.
func (r *rawFS) caller(interrupted <-chan struct{}, h *fuse.InHeader) *caller {
	return &caller{Context: r.ctx, thread: h.Pid, interrupted: interrupted}
}

// Done implements context.Context.
func (c *caller) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done, c.over = make(chan struct{}), make(chan struct{})
		if c.thread != 0 {
			go c.watch(c.thread)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *caller) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dying {
		return context.Canceled
	}
	return nil
}

// end ends the watch, once the request is answered.
func (c *caller) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.thread = 0
	if c.over != nil {
		close(c.over)
	}
}

func (c *caller) watch(thread uint32) {
	select {
	case <-c.interrupted:
	case <-c.over:
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !dies(thread) {
		select {
		case <-tick.C:
		case <-c.over:
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dying = true
	close(c.done)
}

// dies reports whether a thread has ended, or will when it returns from the kernel. If that cannot be told it does not.
func dies(thread uint32) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
	return err == nil && fatal(status)
}

// fatal reports whether, by /proc/PID/status (proc_pid_status(5)), a signal waits that ends the program: SIGKILL, which the
// kernel sends to all threads of a program that ends, or one that ends it and is not held back, ignored or handled. For a
// thread that has ended and is not yet reaped no signal waits any more, so its state tells.
func fatal(status []byte) bool {
	sets := make(map[string]uint64)
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch string(name) {
		case "State":
			if state := bytes.TrimSpace(value); len(state) > 0 && (state[0] == 'Z' || state[0] == 'X') {
				return true
			}
		case "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt":
			set, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
			if err != nil {
				return false
			}
			sets[string(name)] = set
		}
	}
	if len(sets) != 5 {
		return false
	}
	waits := sets["SigPnd"] | sets["ShdPnd"]
	return waits&setOf(unix.SIGKILL) != 0 || waits&^(sets["SigBlk"]|sets["SigIgn"]|sets["SigCgt"]|harmless) != 0
}

// harmless are the signals that end no program unless it wants to.
var harmless = setOf(unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)

func setOf(signals ...unix.Signal) (set uint64) {
	for _, s := range signals {
		set |= 1 << (s - 1)
	}
	return set
}
