// Command bucket measures envfs on a bucket beside rclone, gocryptfs on rclone, s3fs, and minio-go by itself, and prints
// tables for the README: medians of several rounds, and how many requests each step has sent.
//
// All are measured on one MinIO on this machine, through a proxy that counts requests and through another that can make
// the way as long as to a server far away. In each round each step is done by every peer in turn, in a bucket of its own,
// and the next round begins with another peer. A peer is mounted for its own steps only. Cold is: unmounted, without
// anything that was fetched, with empty caches of the kernel, and mounted again. Safe is when all is in the bucket.
//
// It runs from within the module, as it builds the command. Whatever it mounts and writes is gone when it ends, also if
// it is interrupted.
package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"envfs/tests/bench/lab"
)

func main() {
	lab.Main("bench-bucket", run)
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
	err = b.measure(ctx)
	if err != nil && ctx.Err() == nil {
		return err
	}
	if o.JSON { // also what there is when it is interrupted
		return errors.Join(err, b.figures.writeJSON(out))
	}
	return errors.Join(err, b.figures.writeTables(out, b.about(context.WithoutCancel(ctx)), strings.Join(args, " ")))
}
