package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"envfs/blockcrypt"
	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/state"
)

// The descriptors of the pipes between the command and the daemon that it starts.
const (
	requestFD = 3
	reportFD  = 4
)

// mountBehind starts a daemon, hands it the request through a pipe, and returns when the mount works or has failed.
func (a *app) mountBehind(ctx context.Context, req *mountRequest, vault blockcrypt.ID) error {
	dir, err := req.Places.StateDir()
	if err != nil {
		return err
	}
	log, err := state.OpenLog(dir, vault)
	if err != nil {
		return err
	}
	defer log.Close()
	d, err := startDaemon(log)
	if err != nil {
		return err
	}
	defer d.report.Close()
	// The daemon leads a session of its own, so the terminal's Ctrl-C reaches this process only.
	stop := context.AfterFunc(ctx, func() { _ = d.proc.Signal(unix.SIGTERM) })
	defer stop()
	if err := d.send(req); err != nil {
		return fmt.Errorf("hand the request to the daemon: %w", err)
	}
	b := a.newBar()
	defer b.clear()
	lines := bufio.NewScanner(d.report)
	lines.Buffer(make([]byte, 0, 4096), control.MaxLine)
	for lines.Scan() {
		var r control.Reply
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("hear from the daemon: %w", err)
		}
		switch {
		case r.Error != nil:
			return r.Error
		case r.Done:
			return d.proc.Release()
		}
		b.tell(r)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return hint(fmt.Errorf("mount %s: the daemon ended without a word", req.Store), "its log is %s", log.Name())
}

// started is a daemon that has just been started.
type started struct {
	proc    *os.Process
	request *os.File
	report  *os.File
}

func startDaemon(log *os.File) (*started, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	// Whatever this process was handed by its parent (a lock of a script, say) must not live as long as the mount.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	reqR, reqW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	defer reqR.Close()
	repR, repW, err := os.Pipe()
	if err != nil {
		reqW.Close()
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	defer repW.Close()
	cmd := exec.Command(self, daemonVerb)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{reqR, repW}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		reqW.Close()
		repR.Close()
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	return &started{proc: cmd.Process, request: reqW, report: repR}, nil
}

func (d *started) send(req *mountRequest) error {
	defer d.request.Close()
	return json.NewEncoder(d.request).Encode(req)
}
