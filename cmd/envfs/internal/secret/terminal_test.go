package secret

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pty opens a pseudo-terminal: what a user types goes into user, and comes out of tty.
func pty(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close(); tty.Close() })
	return user, tty
}

func TestNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	term := NewTerminal(r, io.Discard)
	if _, err := term.Passphrase(t.Context(), "?"); !errors.Is(err, ErrNoTerminal) {
		t.Error(err)
	}
	if _, err := term.Line(t.Context(), "?"); !errors.Is(err, ErrNoTerminal) {
		t.Error(err)
	}
	if err := term.ShowRecovery(t.Context(), "a b c d e f g h"); !errors.Is(err, ErrNoTerminal) {
		t.Error(err)
	}
}

func TestInterruptedPromptLeavesTheTerminal(t *testing.T) {
	user, tty := pty(t)
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewTerminal(tty, io.Discard).Passphrase(ctx, "?"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if before.Lflag&unix.ECHO != after.Lflag&unix.ECHO {
		t.Error("the terminal no longer echoes")
	}
	// Whoever still waits for the line gets one before the descriptor's number is used again.
	fmt.Fprintln(user, "too late")
	for {
		n, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		runtime.Gosched()
	}
}

// TestShowRecovery plays the user: reads the groups, types a wrong answer first, then the right ones.
func TestShowRecovery(t *testing.T) {
	user, tty := pty(t)
	var words []string
	for i := range 24 {
		words = append(words, fmt.Sprintf("word%d", i))
	}
	groups := Groups(strings.Join(words, " "))
	if len(groups) != 6 {
		t.Fatalf("%d groups", len(groups))
	}
	said, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- NewTerminal(tty, out).ShowRecovery(t.Context(), strings.Join(words, " "))
		out.Close()
	}()
	var all bytes.Buffer
	r := bufio.NewReader(io.TeeReader(said, &all))
	asked := 0
	for {
		text, err := r.ReadString(':')
		if err != nil {
			break
		}
		i := strings.LastIndex(text, "Type group ")
		if i < 0 {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(text[i:], "Type group %d:", &n); err != nil {
			t.Fatal(err)
		}
		asked++
		answer := strings.ToUpper(groups[n-1]) + "  "
		if asked == 1 {
			answer = "something else"
		}
		fmt.Fprintln(user, answer)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if asked != 3 {
		t.Errorf("asked %d times, want two groups and once more", asked)
	}
	for _, g := range groups {
		if strings.Count(all.String(), g) != 1 {
			t.Errorf("group %q is not shown once", g)
		}
	}
}
