package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// options are the flags.
type options struct {
	rounds     int
	steps      *regexp.Regexp
	peers      []string // in the order of the table
	stores     []string
	dir        string // where a directory for everything on the disk is made
	json       bool
	keepCaches bool
	sizes      sizes
}

// sizes say how much work each step is.
type sizes struct {
	big     int64 // bytes of the file that is written and read in sequence and at random
	random  int   // blocks written or read at random places; three times as many must fit into big
	synced  int   // writes with an fsync each
	files   int   // small files in directories
	tree    int   // files in the archive
	repo    int   // files in the repository
	inserts int   // transactions of one row
	rows    int   // rows of one transaction
}

func fullSizes() sizes {
	return sizes{big: 512 << 20, random: 20_000, synced: 500, files: 5_000, tree: 10_000, repo: 3_000, inserts: 300, rows: 200_000}
}

func quickSizes() sizes {
	return sizes{big: 16 << 20, random: 500, synced: 10, files: 200, tree: 200, repo: 100, inserts: 5, rows: 2_000}
}

// usageError is a mistake in the flags.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func parse(args []string, talk io.Writer) (options, error) {
	o := options{sizes: fullSizes()}
	var steps, peers, store string
	var quick bool
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(talk)
	f.IntVar(&o.rounds, "rounds", 5, "how often each step is measured")
	f.StringVar(&steps, "steps", "", "measure only steps whose names match this `regexp`")
	f.StringVar(&peers, "peers", "bare,gocryptfs,envfs,envfs-writeback,empty", "who is measured: also empty-writeback")
	f.StringVar(&store, "store", "both", "where stores lie: disk, tmpfs or both")
	f.StringVar(&o.dir, "dir", os.TempDir(), "a `directory` on the disk to measure")
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
	if o.stores = []string{store}; store == "both" {
		o.stores = []string{onDisk, onTmpfs}
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
	for _, s := range o.stores {
		if s != onDisk && s != onTmpfs {
			return usageError{fmt.Errorf("-store: %q is not disk, tmpfs or both", s)}
		}
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
