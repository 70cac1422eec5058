package main

import (
	"flag"
	"io"
	"strings"
	"time"

	"envfs/tests/bench/lab"
)

// options are the flags.
type options struct {
	lab.Options
	delays []time.Duration
	trace  string // file
	sizes  sizes
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

func parse(args []string, talk io.Writer) (options, error) {
	o := options{sizes: fullSizes()}
	f := flag.NewFlagSet("bench-bucket", flag.ContinueOnError)
	f.SetOutput(talk)
	o.Flags(f, strings.Join(names(kinds()), ","), "", "a `directory` for the server's objects and what peers keep")
	delays := f.String("latency", "0,20ms", "how long the way to the server and back takes, one table each")
	f.StringVar(&o.trace, "trace", "", "write a line for each request to this `file`")
	if err := o.Parse(f, args, func(peer string) bool { _, ok := kindOf(peer); return ok }); err != nil {
		return o, err
	}
	if o.Quick {
		o.sizes = quickSizes()
	}
	for text := range strings.SplitSeq(*delays, ",") {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return o, lab.Usage("-latency: %q is no time such as 20ms", text)
		}
		o.delays = append(o.delays, d)
	}
	return o, nil
}
