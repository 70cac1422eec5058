package main

import (
	"flag"
	"io"

	"envfs/tests/bench/lab"
)

// options are the flags.
type options struct {
	lab.Options
	stores []string
	sizes  sizes
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

func parse(args []string, talk io.Writer) (options, error) {
	o := options{sizes: fullSizes()}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(talk)
	o.Flags(f, "bare,gocryptfs,envfs,envfs-writeback,empty", ": also empty-writeback", "a `directory` on the disk to measure")
	store := f.String("store", "both", "where stores lie: disk, tmpfs or both")
	if err := o.Parse(f, args, func(peer string) bool { _, ok := kindOf(peer); return ok }); err != nil {
		return o, err
	}
	if o.Quick {
		o.sizes = quickSizes()
	}
	switch *store {
	case "both":
		o.stores = []string{onDisk, onTmpfs}
	case onDisk, onTmpfs:
		o.stores = []string{*store}
	default:
		return o, lab.Usage("-store: %q is not disk, tmpfs or both", *store)
	}
	return o, nil
}
