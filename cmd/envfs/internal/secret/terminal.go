package secret

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ErrNoTerminal says that a secret would have to be asked for and nobody is there.
var ErrNoTerminal = errors.New("no terminal to ask at")

// Terminal asks the user. It must not be used concurrently.
type Terminal struct {
	in  *os.File
	out io.Writer
	buf *bufio.Reader
}

// NewTerminal returns the terminal that in is, if it is one, with its prompts going to out.
func NewTerminal(in *os.File, out io.Writer) *Terminal {
	return &Terminal{in: in, out: out, buf: bufio.NewReader(in)}
}

// Present reports whether somebody can be asked.
func (t *Terminal) Present() bool { return term.IsTerminal(int(t.in.Fd())) }

// Passphrase asks for a passphrase without showing it. When ctx ends the terminal is left as it was.
func (t *Terminal) Passphrase(ctx context.Context, prompt string) ([]byte, error) {
	if !t.Present() {
		return nil, ErrNoTerminal
	}
	fmt.Fprint(t.out, prompt)
	text, err := t.unseen(ctx)
	fmt.Fprintln(t.out)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for passphrase: %w", err)
	}
	pass, err := passphrase(text)
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	return pass, nil
}

// maxLine is the number of bytes that a terminal gives for one line, at most.
const maxLine = 4096

// unseen reads a line that the terminal does not show. Echo is turned off and on here, not beside the reading: that may
// begin, and go on, when ctx has ended and the terminal is left as it was.
func (t *Terminal) unseen(ctx context.Context) (line []byte, err error) {
	fd := int(t.in.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	quiet := *old
	quiet.Lflag = quiet.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, old)) }()
	return await(ctx, func() ([]byte, error) { return readLine(t.in) })
}

// readLine reads up to the end of a line, and nothing behind it.
func readLine(r io.Reader) ([]byte, error) {
	line := make([]byte, 0, maxLine)
	for len(line) < maxLine {
		n, err := r.Read(line[len(line) : len(line)+1])
		if n > 0 {
			if line = line[:len(line)+1]; line[len(line)-1] == '\n' {
				return line[:len(line)-1], nil
			}
		}
		if err == io.EOF && len(line) > 0 {
			return line, nil
		}
		if err != nil {
			return nil, err
		}
	}
	clear(line)
	return nil, errors.New("the line is too long")
}

// NewPassphrase asks for a new passphrase twice.
func (t *Terminal) NewPassphrase(ctx context.Context, prompt string) ([]byte, error) {
	first, err := t.Passphrase(ctx, prompt)
	if err != nil {
		return nil, err
	}
	again, err := t.Passphrase(ctx, "Once more: ")
	if err == nil && !bytes.Equal(first, again) {
		err = errors.New("passphrase: the two are not the same")
	}
	clear(again)
	if err != nil {
		clear(first)
		return nil, err
	}
	return first, nil
}

// Line asks for a line of text.
func (t *Terminal) Line(ctx context.Context, prompt string) (string, error) {
	if !t.Present() {
		return "", ErrNoTerminal
	}
	fmt.Fprint(t.out, prompt)
	line, err := await(ctx, func() (string, error) { return t.buf.ReadString('\n') })
	if err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// Confirm asks a question whose answer is yes unless the user says no.
func (t *Terminal) Confirm(ctx context.Context, question string) (bool, error) {
	for {
		line, err := t.Line(ctx, question+" [Y/n] ")
		if err != nil {
			return false, err
		}
		switch strings.ToLower(line) {
		case "", "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
	}
}

// await returns what f returns, or earlier when ctx ends; f then goes on reading until the process ends.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	ch := make(chan result, 1)
	go func() {
		v, err := f()
		ch <- result{v, err}
	}()
	select {
	case r := <-ch:
		return r.v, r.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}
