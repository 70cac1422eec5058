package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	rounds     int
	steps      *regexp.Regexp
	peers      []string // in the order of the table
	delays     []time.Duration
	dir        string // where a directory for everything is made
	trace      string // file
	json       bool
	keepCaches bool
	sizes      sizes
}

// sizes say how much work each step is.
type sizes struct {
	files    int   // small files in directories
	fileSize int64 // bytes of each
	big      int64 // bytes of the file that is written and read in sequence and at random
	random   int   // blocks read at random places
	repo     int   // files in the repository
	inserts  int   // transactions of one row
}

func fullSizes() sizes {
	return sizes{files: 1000, fileSize: 8 << 10, big: 512 << 20, random: 2000, repo: 1000, inserts: 300}
}

func quickSizes() sizes {
	return sizes{files: 50, fileSize: 8 << 10, big: 8 << 20, random: 100, repo: 10, inserts: 5}
}

// usageError is a mistake in the flags.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func parse(args []string, talk io.Writer) (options, error) {
	o := options{sizes: fullSizes()}
	var steps, peers, delays string
	var quick bool
	f := flag.NewFlagSet("bench-bucket", flag.ContinueOnError)
	f.SetOutput(talk)
	f.IntVar(&o.rounds, "rounds", 5, "how often each step is measured")
	f.StringVar(&steps, "steps", "", "measure only steps whose names match this `regexp`")
	f.StringVar(&peers, "peers", strings.Join(names(kinds()), ","), "who is measured")
	f.StringVar(&delays, "latency", "0,20ms", "how long the way to the server and back takes, one table each")
	f.StringVar(&o.dir, "dir", os.TempDir(), "a `directory` for the server's objects and what peers keep")
	f.StringVar(&o.trace, "trace", "", "write a line for each request to this `file`")
	f.BoolVar(&o.json, "json", false, "one JSON object a line instead of tables")
	f.BoolVar(&quick, "quick", false, "little work, to see that all of it runs: the figures mean nothing")
	f.BoolVar(&o.keepCaches, "keep-caches", false, "do not drop the machine's page cache for cold steps")
	if err := f.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return o, err
		}
		return o, usageError{err}
	}
	if quick {
		o.sizes = quickSizes()
	}
	var err error
	if o.steps, err = regexp.Compile(steps); err != nil {
		return o, usageError{fmt.Errorf("-steps: %w", err)}
	}
	for text := range strings.SplitSeq(delays, ",") {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return o, usageError{fmt.Errorf("-latency: %q is no time such as 20ms", text)}
		}
		o.delays = append(o.delays, d)
	}
	o.peers = strings.Split(peers, ",")
	return o, o.check(f.Args())
}

func (o *options) check(rest []string) error {
	if len(rest) > 0 {
		return usageError{fmt.Errorf("there are no arguments, but got %q", rest)}
	}
	if o.rounds < 1 {
		return usageError{fmt.Errorf("-rounds: %d is too few", o.rounds)}
	}
	for i, name := range o.peers {
		if _, ok := kindOf(name); !ok {
			return usageError{fmt.Errorf("-peers: there is no %q", name)}
		}
		if slices.Contains(o.peers[:i], name) {
			return usageError{fmt.Errorf("-peers: %s is named twice", name)}
		}
	}
	return nil
}
