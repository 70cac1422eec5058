// Command bench measures envfs beside gocryptfs, a bare directory and a FUSE file system that does nothing, which is
// the ceiling of what FUSE allows. It prints a table for the README: medians of several rounds.
//
// All are measured alike. In each round each step is done by every peer in turn, and the next round begins with another
// peer. A peer is mounted for its own steps only, so that what it does behind its users' back, it does alone; before
// the clock starts, the file system on which the store lies is synced, so that nobody pays for what another left to be
// written. Work that is plain I/O is done by this process, the rest by the programs that people use.
//
// It runs from within the module, as it builds the command. Whatever it mounts and writes is gone when it ends, also if
// it is interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"envfs/tests/bench/lab"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == emptyVerb {
		if err := serveEmpty(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	lab.Main("bench", run)
}

// run does what the arguments ask for. The figures go to out, what is being done to talk. When it returns, nothing that
// it mounted or wrote is left.
func run(ctx context.Context, args []string, out, talk io.Writer) (err error) {
	o, err := parse(args, talk)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o, talk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.measure(ctx); err != nil {
		return err
	}
	if o.JSON {
		return b.results.writeJSON(out)
	}
	return b.results.writeTables(out, b.about(ctx), strings.Join(args, " "))
}
