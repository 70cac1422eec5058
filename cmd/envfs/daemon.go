package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"envfs/cmd/envfs/internal/control"
)

// daemonVerb is the verb under which `envfs mount` starts this program again to stay behind.
const daemonVerb = "daemon"

func (a *app) daemonCommand() *cobra.Command {
	return &cobra.Command{
		Use:    daemonVerb,
		Short:  "Serve a mount (started by envfs mount)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(c *cobra.Command, _ []string) error { return a.daemon(c.Context()) },
	}
}

// daemon reads a request from the command that started it, serves the mount and reports how it begins.
func (a *app) daemon(ctx context.Context) error {
	unix.Umask(0o077)
	unix.CloseOnExec(requestFD)
	unix.CloseOnExec(reportFD)
	in, out := os.NewFile(requestFD, "request"), os.NewFile(reportFD, "report")
	if in == nil || out == nil {
		return fmt.Errorf("%w: `envfs mount` starts the daemon", errUsage)
	}
	defer out.Close()
	var req mountRequest
	err := readRequest(in, &req)
	in.Close()
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	r := &report{out: out}
	err = serve(ctx, &req, newLog(a.talk), reporter{
		progress: func(p control.Progress) { r.send(control.Reply{Progress: &p}) },
		notice:   func(text string) { r.send(control.Reply{Notice: text}) },
		ready:    func() { r.send(control.Reply{Done: true}); r.close() },
	})
	if err != nil {
		r.send(control.Reply{Error: wire(err)})
	}
	return err
}

// maxRequest bounds a request in bytes.
const maxRequest = 256 << 10

// readRequest reads a request up to the end of in, and wipes what it was read from: the secrets are in it, and this
// process lives as long as the mount.
func readRequest(in io.Reader, req *mountRequest) error {
	buf := make([]byte, maxRequest)
	defer clear(buf)
	n, err := io.ReadFull(in, buf)
	if err == nil {
		return errors.New("it is too long")
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return json.Unmarshal(buf[:n], req)
}

// report is the way back to the command that waits for the mount, until that is ready.
type report struct {
	mu  sync.Mutex
	out *os.File
}

func (r *report) send(m control.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out != nil {
		if err := json.NewEncoder(r.out).Encode(m); errors.Is(err, unix.EPIPE) {
			r.out = nil // nobody waits any more
		}
	}
}

func (r *report) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out != nil {
		r.out.Close()
		r.out = nil
	}
}
