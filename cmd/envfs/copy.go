package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/state"
	"envfs/fs"
	"envfs/remote"
	"envfs/remote/s3"
)

func (a *app) copyCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "copy STORE STORE",
		Short: "Copy a vault to another place, still encrypted",
		Long: `Copy the vault in the first STORE to the second, a directory or a bucket. No key is needed, nothing is decrypted.

What is there already is left out: a copy that was broken off goes on, and one that was made earlier is brought up to
date. The first may be mounted and in use: the copy is the vault as it was at one moment. Of a vault in a bucket, what is
not published yet is not copied.

A copy is not meant to be written to: one that was is refused, as its changes would be lost.`,
		Example: `  envfs copy ~/vault /media/stick/vault
  envfs copy 's3://team/vault?endpoint=https://minio.example:9000' ~/backup`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error { return a.copy(c.Context(), args[0], args[1], asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	a.placeFlags(c.Flags())
	return c
}

func (a *app) copy(ctx context.Context, from, to string, asJSON bool) (err error) {
	source, err := storePath(from)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	dest, err := newStorePath(to)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	src, err := openSource(source)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer src.Close() // it was only read
	dst, err := openDestination(ctx, dest, a.at)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	b := a.newBar()
	defer b.clear()
	var pace audience
	pace.join(b.show)
	res, err := fs.Copy(ctx, dst, src, func(done, total int64) { pace.progress("copying", done, total) })
	b.clear()
	if err != nil {
		return err
	}
	if asJSON {
		return a.object(res)
	}
	a.say("The copy is complete: %s in %s were copied, %d were there already. It is of %s or after.",
		size(res.Bytes), plural(res.Objects, "object", "objects"), res.Skipped, moment(res.Moment))
	return nil
}

// openSource opens a store for copying from it.
func openSource(path string) (remote.Store, error) {
	if isBucket(path) {
		return openFar(path, true, s3.DefaultRetry.Patience, slog.New(slog.DiscardHandler))
	}
	return openDir(path, true)
}

// openDestination opens or makes a store for copying to it, and locks it if that is possible.
func openDestination(ctx context.Context, path string, at state.Places) (remote.Store, error) {
	s, err := createStore(ctx, path, at)
	if err != nil {
		return nil, err
	}
	if err := lock(s, path, at); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}
