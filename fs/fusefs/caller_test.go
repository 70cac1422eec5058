package fusefs

import (
	"context"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A program that is about to end is told from one that handles, ignores or holds back what was sent to it.
func TestFatal(t *testing.T) {
	const quiet = "Name:\tx\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n"
	for name, c := range map[string]struct {
		status string
		want   bool
	}{
		"nothing waits":                  {quiet, false},
		"SIGKILL":                        {"SigPnd:\t0000000000000100\n" + quiet[28:], true},
		"SIGTERM":                        {"SigPnd:\t0\nShdPnd:\t4000\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n", true},
		"SIGTERM, handled":               {"SigPnd:\t0\nShdPnd:\t4000\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t4000\n", false},
		"SIGTERM, ignored":               {"SigPnd:\t0\nShdPnd:\t4000\nSigBlk:\t0\nSigIgn:\t4000\nSigCgt:\t0\n", false},
		"SIGTERM, held back":             {"SigPnd:\t0\nShdPnd:\t4000\nSigBlk:\t4000\nSigIgn:\t0\nSigCgt:\t0\n", false},
		"SIGURG of a Go program":         {"SigPnd:\t400000\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t400000\n", false},
		"SIGURG that none awaits":        {"SigPnd:\t400000\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n", false},
		"a signal held back and SIGKILL": {"SigPnd:\t100\nShdPnd:\t4000\nSigBlk:\t4000\nSigIgn:\t0\nSigCgt:\t0\n", true},
		"sleeps":                         {"State:\tS (sleeping)\n" + quiet, false},
		"a zombie":                       {"State:\tZ (zombie)\n" + quiet, true},
		"dead":                           {"State:\tX (dead)\n" + quiet, true},
		"a state without a letter":       {"State:\t\n" + quiet, false},
		"not a number":                   {"SigPnd:\txyz\nShdPnd:\t4000\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n", false},
		"a part":                         {"SigPnd:\t100\n", false},
		"nothing":                        {"", false},
	} {
		if got := fatal([]byte(c.status)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The context of a request ends with a program that was interrupted and is killed, and not with a signal alone.
func TestCaller(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // it was killed
	defer func() { _ = cmd.Process.Kill() }()
	interrupted := make(chan struct{})
	close(interrupted)
	c := &caller{Context: context.Background(), thread: uint32(cmd.Process.Pid), interrupted: interrupted}
	defer c.end()
	if dies(c.thread) || c.Err() != nil {
		t.Error("a program that sleeps is taken for one that dies")
	}
	// A stopped program takes no signal, so what is sent waits, as with one that waits for a reply. Before it has stopped
	// it would take SIGTERM first.
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatal(status, err)
	}
	if err := cmd.Process.Signal(unix.SIGURG); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
		t.Error("it ended with a signal that is ignored")
	default:
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if c.Err() != context.Canceled {
		t.Errorf("it ended with %v", c.Err())
	}
	// The signal that waited is not to be seen any more once it has ended the program.
	if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if !dies(c.thread) {
		t.Error("a program that has ended is not told from one that sleeps")
	}
	none := &caller{Context: context.Background(), interrupted: interrupted}
	defer none.end()
	select {
	case <-none.Done():
		t.Error("a request of nobody who is known ended")
	default:
	}
}
