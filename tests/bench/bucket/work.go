package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"envfs/tests/bench/lab"
)

const (
	sequence     = lab.SequenceSize
	perDirectory = 100              // small files
	readers      = 32               // at once
	randomTime   = 15 * time.Second // after which those who are slow have read enough
)

// site is where a step works.
type site struct {
	dir    string // in a mount
	peer   peer
	sizes  sizes
	noise  lab.Noise
	source string  // directory of small files
	repo   string  // repository
	blocks []int64 // of the big file, all in a random order
}

func (s *site) files() string { return filepath.Join(s.dir, "files") }
func (s *site) moved() string { return filepath.Join(s.dir, "moved") }
func (s *site) big() string   { return filepath.Join(s.dir, "big") }

// makeSource makes the small files that are copied.
func (s *site) makeSource() error {
	for i := range s.sizes.files {
		dir := filepath.Join(s.source, fmt.Sprintf("dir%03d", i/perDirectory))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		data := s.noise.At(int64(i)*s.sizes.fileSize, int(s.sizes.fileSize))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%05d", i)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func copyFiles(ctx context.Context, s *site) (float64, error) {
	return once, lab.Program(ctx, "/", "", "cp", "-r", s.source, s.files())
}

// copyDirectories copies some of the directories of small files.
func (s *site) copyDirectories(ctx context.Context, first, count int) error {
	if err := os.MkdirAll(s.files(), 0o755); err != nil {
		return err
	}
	args := []string{"-r"}
	for i := first; i < first+count && i*perDirectory < s.sizes.files; i++ {
		args = append(args, filepath.Join(s.source, fmt.Sprintf("dir%03d", i)))
	}
	return lab.Program(ctx, "/", "", "cp", append(args, s.files())...)
}

func list(ctx context.Context, s *site) (float64, error) {
	return once, lab.Program(ctx, "/", "", "ls", "-lR", s.dir)
}

// readFiles finds and reads the small files, one after the other, as tar does.
func readFiles(ctx context.Context, s *site) (float64, error) {
	buf := make([]byte, s.sizes.fileSize+1)
	n := 0
	err := filepath.WalkDir(s.files(), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		return lab.WithFile(name, os.O_RDONLY, false, func(f *os.File) error {
			if got, err := f.Read(buf); int64(got) != s.sizes.fileSize {
				return fmt.Errorf("read %s: %d bytes: %w", d.Name(), got, err)
			}
			return ctx.Err()
		})
	})
	if err == nil && n != s.sizes.files {
		err = fmt.Errorf("read %d files instead of %d", n, s.sizes.files)
	}
	return once, err
}

func rename(_ context.Context, s *site) (float64, error) {
	return once, os.Rename(s.files(), s.moved())
}

// remove removes the files, which are where renaming has brought them, or not.
func remove(ctx context.Context, s *site) (float64, error) {
	return once, lab.Program(ctx, "/", "", "rm", "-rf", s.files(), s.moved())
}

func (s *site) megabytes() float64 { return float64(s.sizes.big) / 1e6 }

func writeBig(ctx context.Context, s *site) (float64, error) {
	if b, ok := s.peer.(blobs); ok {
		return s.megabytes(), b.put(ctx, s)
	}
	return s.megabytes(), lab.WithFile(s.big(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, false, func(f *os.File) error {
		for off := int64(0); off < s.sizes.big; off += sequence {
			if _, err := f.Write(s.noise.At(off, sequence)); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
}

func syncBig(_ context.Context, s *site) (float64, error) {
	return once, lab.WithFile(s.big(), os.O_RDONLY, true, func(*os.File) error { return nil })
}

func readBig(ctx context.Context, s *site) (float64, error) {
	if b, ok := s.peer.(blobs); ok {
		return s.megabytes(), b.get(ctx, s)
	}
	buf := make([]byte, sequence)
	return s.megabytes(), lab.WithFile(s.big(), os.O_RDONLY, false, func(f *os.File) error {
		for off := int64(0); off < s.sizes.big; off += sequence {
			if n, err := f.Read(buf); n != len(buf) {
				return fmt.Errorf("read %d bytes at %d: %w", n, off, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
}

// readRandom reads blocks of the big file, many at once.
func readRandom(ctx context.Context, s *site) (float64, error) {
	var done atomic.Int64
	deadline := time.Now().Add(randomTime)
	err := lab.WithFile(s.big(), os.O_RDONLY, false, func(f *os.File) error {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
			return err
		}
		g, ctx := errgroup.WithContext(ctx)
		for r := range readers {
			g.Go(func() error {
				buf := make([]byte, lab.BlockSize)
				for i := r; i < s.sizes.random && time.Now().Before(deadline); i += readers {
					if _, err := f.ReadAt(buf, s.blocks[i]*lab.BlockSize); err != nil {
						return err
					}
					done.Add(1)
					if ctx.Err() != nil {
						return ctx.Err()
					}
				}
				return nil
			})
		}
		return g.Wait()
	})
	if err == nil && done.Load() == 0 {
		err = errors.New("nothing was read in time")
	}
	return float64(done.Load()), err
}

func clone(ctx context.Context, s *site) (float64, error) {
	return once, lab.Clone(ctx, s.dir, s.repo)
}

func insert(ctx context.Context, s *site) (float64, error) {
	return float64(s.sizes.inserts), lab.InsertSynced(ctx, s.dir, s.sizes.inserts)
}
