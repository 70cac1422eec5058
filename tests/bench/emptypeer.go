package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"envfs/tests/bench/lab"
)

// empty is a FUSE file system that keeps names and sizes in memory and does nothing else. Its server is this program
// again, and goes on when the file system is unmounted: the names must be there when it is mounted again.
type empty struct {
	point   string
	server  *lab.Child
	orders  io.WriteCloser
	pipe    io.Closer
	answers *bufio.Scanner // from pipe
}

func newEmpty(flags ...string) func(*tools, string) (peer, error) {
	return func(t *tools, dir string) (peer, error) {
		e := &empty{point: filepath.Join(dir, "mnt")}
		if err := os.Mkdir(e.point, 0o755); err != nil {
			return nil, err
		}
		cmd := exec.Command(t.self, append([]string{emptyVerb, e.point}, flags...)...)
		answers, theirs, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer theirs.Close()
		cmd.Stdout = theirs
		if e.orders, err = cmd.StdinPipe(); err == nil {
			e.server, err = lab.Start(cmd)
		}
		if err != nil {
			answers.Close()
			return nil, err
		}
		e.pipe, e.answers = answers, bufio.NewScanner(answers)
		return e, nil
	}
}

// order has the server do something.
func (e *empty) order(what string) error {
	if _, err := fmt.Fprintln(e.orders, what); err != nil || !e.answers.Scan() {
		return e.server.Failure(what)
	}
	if answer := e.answers.Text(); answer != okAnswer {
		return fmt.Errorf("%s %s: %s", what, e.point, strings.TrimSpace(answer))
	}
	return nil
}

func (e *empty) mount() error   { return e.order(mountOrder) }
func (e *empty) unmount() error { return e.order(unmountOrder) }
func (e *empty) root() string   { return e.point }
func (e *empty) pid() int       { return e.server.PID() }

// discard ends the server, which unmounts before it ends.
func (e *empty) discard() error {
	_ = e.orders.Close() // only how the server ends counts
	err := e.server.Wait()
	e.pipe.Close()
	return err
}
