package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"envfs/tests/bench/lab"
)

func (s *site) big() string { return filepath.Join(s.dir, "big") }

// writeBig makes the big file.
func writeBig(synced bool) work {
	return func(ctx context.Context, s *site) (float64, error) {
		err := lab.WithFile(s.big(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, synced, func(f *os.File) error {
			for off := int64(0); off < s.sizes.big; off += lab.SequenceSize {
				if _, err := f.Write(s.kit.noise.At(off, lab.SequenceSize)); err != nil {
					return err
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
			return nil
		})
		return float64(s.sizes.big) / 1e6, err
	}
}

func readBig(ctx context.Context, s *site) (float64, error) {
	buf := make([]byte, lab.SequenceSize)
	err := lab.WithFile(s.big(), os.O_RDONLY, false, func(f *os.File) error {
		for off := int64(0); off < s.sizes.big; off += lab.SequenceSize {
			if n, err := f.Read(buf); n != len(buf) {
				return fmt.Errorf("read %d bytes at %d: %w", n, off, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
	return float64(s.sizes.big) / 1e6, err
}

// atRandom calls fn for blocks of the big file: each share is of others.
func (s *site) atRandom(ctx context.Context, share, flags int, synced bool, fn func(f *os.File, off int64) error) (float64, error) {
	blocks := s.blocks[share*s.sizes.random:][:s.sizes.random]
	err := lab.WithFile(s.big(), flags, synced, func(f *os.File) error {
		for _, b := range blocks {
			if err := fn(f, b*lab.BlockSize); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
	return float64(len(blocks)), err
}

func writeRandom(share int, synced bool) work {
	return func(ctx context.Context, s *site) (float64, error) {
		return s.atRandom(ctx, share, os.O_WRONLY, synced, func(f *os.File, off int64) error {
			_, err := f.WriteAt(s.kit.noise.At(off, lab.BlockSize), off)
			return err
		})
	}
}

func readRandom(share int) work {
	return func(ctx context.Context, s *site) (float64, error) {
		buf := make([]byte, lab.BlockSize)
		return s.atRandom(ctx, share, os.O_RDONLY, false, func(f *os.File, off int64) error {
			_, err := f.ReadAt(buf, off)
			return err
		})
	}
}

// writeSynced appends to a file and waits for the disk each time, as a log does.
func writeSynced(ctx context.Context, s *site) (float64, error) {
	err := lab.WithFile(filepath.Join(s.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, false, func(f *os.File) error {
		for i := range s.sizes.synced {
			if _, err := f.Write(s.kit.noise.At(int64(i)*lab.BlockSize, lab.BlockSize)); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
	return float64(s.sizes.synced), err
}
