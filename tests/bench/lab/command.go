package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Main runs a benchmark as a command and ends the process with its code: 2 for wrong usage, 130 if it was interrupted.
func Main(name string, run func(ctx context.Context, args []string, out, talk io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	code := 1
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return
	case errors.As(err, new(UsageError)):
		code = 2
	case ctx.Err() != nil:
		name, code = name+": interrupted", 130
	}
	fmt.Fprintln(os.Stderr, name+":", err)
	os.Exit(code)
}

// UsageError is a mistake in the flags.
type UsageError struct{ error }

func (e UsageError) Unwrap() error { return e.error }

// Usage returns a UsageError.
func Usage(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Options are the flags that all benchmarks have.
type Options struct {
	Rounds     int
	Steps      *regexp.Regexp
	Peers      []string // in the order of the table
	Dir        string   // where a directory for everything is made
	JSON       bool
	Quick      bool
	KeepCaches bool

	steps, peers string
}

// Flags declares the flags. usual are the peers that are measured if none are named; dir says what lies in the directory.
func (o *Options) Flags(f *flag.FlagSet, usual, others, dir string) {
	f.IntVar(&o.Rounds, "rounds", 5, "how often each step is measured")
	f.StringVar(&o.steps, "steps", "", "measure only steps whose names match this `regexp`")
	f.StringVar(&o.peers, "peers", usual, "who is measured"+others)
	f.StringVar(&o.Dir, "dir", os.TempDir(), dir)
	f.BoolVar(&o.JSON, "json", false, "one JSON object a line instead of tables")
	f.BoolVar(&o.Quick, "quick", false, "little work, to see that all of it runs: the figures mean nothing")
	f.BoolVar(&o.KeepCaches, "keep-caches", false, "do not drop the machine's page cache for cold steps")
}

// Parse reads the arguments. known reports whether there is a peer of that name.
func (o *Options) Parse(f *flag.FlagSet, args []string, known func(peer string) bool) error {
	if err := f.Parse(args); err == flag.ErrHelp {
		return err
	} else if err != nil {
		return UsageError{err}
	}
	if f.NArg() > 0 {
		return Usage("there are no arguments, but got %q", f.Args())
	}
	if o.Rounds < 1 {
		return Usage("-rounds: %d is too few", o.Rounds)
	}
	var err error
	if o.Steps, err = regexp.Compile(o.steps); err != nil {
		return Usage("-steps: %w", err)
	}
	o.Peers = strings.Split(o.peers, ",")
	for i, name := range o.Peers {
		if !known(name) {
			return Usage("-peers: there is no %q", name)
		}
		if slices.Contains(o.Peers[:i], name) {
			return Usage("-peers: %s is named twice", name)
		}
	}
	return nil
}

// LeftBehind says what lies in a directory, or is mounted below it.
func LeftBehind(dir string) error {
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		return fmt.Errorf("left behind: %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), dir) {
		return fmt.Errorf("left mounted below %s (%v):\n%s", dir, err, mounts)
	}
	return nil
}
