package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/cmd/envfs/internal/state"
	"envfs/keystore/pkcs11"
	"envfs/remote/s3"
)

// app is one run of the command: where it reads, where data goes, and where it talks to the user.
type app struct {
	in   *os.File
	out  *output  // data
	talk *os.File // everything else
	term *secret.Terminal
	at   state.Places // as the flags of the verb say

	module *pkcs11.Module // nil until it is first asked for
}

func newApp(in, out, talk *os.File) *app {
	return &app{in: in, out: &output{file: out}, talk: talk, term: secret.NewTerminal(in, talk)}
}

// output is where data goes. It remembers that some could not be written, whoever wrote it: a command whose output is cut
// short has failed.
type output struct {
	file *os.File
	err  error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// say tells the user something. There may be names in it that lie in a store which others write to: they do no harm to a
// terminal.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.talk, harmless(fmt.Sprintf(format, args...)))
}

// talking reports whether a person reads what is said.
func (a *app) talking() bool { return term.IsTerminal(int(a.talk.Fd())) }

// complain says what went wrong, and what helps.
func (a *app) complain(err error) {
	a.say("envfs: %v", err)
	if h := hintOf(err); h != "" {
		a.say("hint: %s", h)
	}
}

// ReadFrom lets the kernel copy, where it can.
func (o *output) ReadFrom(r io.Reader) (int64, error) { return o.file.ReadFrom(r) }

// object writes v as one line of JSON to where data goes.
func (a *app) object(v any) error { return json.NewEncoder(a.out).Encode(v) }

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// hint adds advice to an error.
func hint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// hintOf returns the advice that came with an error, or that which the table of exit codes has for it.
func hintOf(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*s3.ConfigError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*secret.InsecureError](err); ok {
		return fmt.Sprintf("chmod 600 %s", shellQuote(e.Name))
	}
	if o := outcomeOf(err); o != nil {
		return o.hint
	}
	return ""
}

// wire turns an error into what a daemon tells.
func wire(err error) *control.Error {
	return &control.Error{Code: exitCode(err), Message: err.Error(), Hint: hintOf(err)}
}

// name returns the name of a file as it is written to where data goes: as it is, or so that it does no harm to a terminal.
func (a *app) name(s string) string {
	if term.IsTerminal(int(a.out.file.Fd())) {
		return printable(s)
	}
	return s
}
