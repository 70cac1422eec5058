package programs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// actor is another process, this test's own binary, that does what it is told, one line at a time.
type actor struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers *bufio.Scanner
}

// newActor starts an actor that has the file name open for reading and writing, with O_APPEND if its role is "append".
func newActor(t *testing.T, role, name string) *actor {
	t.Helper()
	a := &actor{cmd: exec.Command("/proc/self/exe", name)}
	a.cmd.Env = append(os.Environ(), actorVar+"="+role)
	var talk bytes.Buffer
	a.cmd.Stderr = &talk
	var err error
	a.stdin, err = a.cmd.StdinPipe()
	must(t, err)
	stdout, err := a.cmd.StdoutPipe()
	must(t, err)
	a.answers = bufio.NewScanner(stdout)
	must(t, a.cmd.Start())
	t.Cleanup(func() {
		a.stdin.Close()
		if err := a.cmd.Wait(); err != nil {
			t.Errorf("actor: %v: %s", err, talk.String())
		}
	})
	return a
}

// tell has the actor do something without waiting for the answer.
func (a *actor) tell(t *testing.T, line string, args ...any) {
	t.Helper()
	_, err := fmt.Fprintf(a.stdin, line+"\n", args...)
	must(t, err)
}

// hear returns the actor's next answer.
func (a *actor) hear(t *testing.T) string {
	t.Helper()
	if !a.answers.Scan() {
		t.Fatalf("the actor is gone: %v", a.answers.Err())
	}
	return a.answers.Text()
}

func (a *actor) ask(t *testing.T, line string, args ...any) string {
	t.Helper()
	a.tell(t, line, args...)
	return a.hear(t)
}

// act is the actor's side.
func act(role string, args []string) error {
	flags := os.O_RDWR | os.O_CREATE
	if role == "append" {
		flags |= os.O_APPEND
	}
	f, err := os.OpenFile(args[0], flags, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(answer(f, strings.Fields(lines.Text())))
	}
	return nil
}

// answer does one thing with f, and returns "ok", what was read, or the name of an error.
func answer(f *os.File, words []string) string {
	number := func(i int) int64 {
		n, err := strconv.ParseInt(words[i], 10, 64)
		if err != nil {
			panic(err) // a mistake of the test
		}
		return n
	}
	var err error
	switch words[0] {
	case "flock":
		err = unix.Flock(int(f.Fd()), int(number(1)))
	case "lock": // type, start, length
		lock := unix.Flock_t{Type: int16(number(1)), Start: number(2), Len: number(3)}
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock)
	case "wait": // the same, but wait
		lock := unix.Flock_t{Type: int16(number(1)), Start: number(2), Len: number(3)}
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLKW, &lock)
	case "append": // count, word
		for range number(1) {
			if _, err = fmt.Fprintln(f, words[2]); err != nil {
				break
			}
		}
	case "map": // offset, word: by a shared mapping of the whole file
		err = mapped(f, func(m []byte) { copy(m[number(1):], words[2]) })
	case "mapread": // offset, length
		var got string
		if err = mapped(f, func(m []byte) { got = string(m[number(1) : number(1)+number(2)]) }); err == nil {
			return got
		}
	case "read": // offset, length
		buf := make([]byte, number(2))
		if _, err = f.ReadAt(buf, number(1)); err == nil {
			return string(buf)
		}
	case "write": // offset, word
		_, err = f.WriteAt([]byte(words[2]), number(1))
	default:
		panic("no such word: " + words[0])
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return unix.ErrnoName(errno)
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func mapped(f *os.File, fn func(m []byte)) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	fn(m)
	return unix.Munmap(m)
}
