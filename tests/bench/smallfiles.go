package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"envfs/tests/bench/lab"
)

// perDirectory is how many of the small files one directory has.
const perDirectory = 100

func (s *site) files() string { return filepath.Join(s.dir, "files") }

// createFiles makes the small files and their directories.
func createFiles(ctx context.Context, s *site) (float64, error) {
	if err := os.Mkdir(s.files(), 0o755); err != nil {
		return 0, err
	}
	var dir string
	for i := range s.sizes.files {
		if i%perDirectory == 0 {
			dir = filepath.Join(s.files(), fmt.Sprintf("dir%03d", i/perDirectory))
			if err := os.Mkdir(dir, 0o755); err != nil {
				return 0, err
			}
		}
		name := filepath.Join(dir, fmt.Sprintf("file%05d", i))
		err := lab.WithFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, false, func(f *os.File) error {
			_, err := f.Write(s.kit.noise.At(int64(i)*lab.BlockSize, lab.BlockSize))
			return err
		})
		if err != nil {
			return 0, err
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return float64(s.sizes.files), nil
}

// readFiles finds and reads the small files.
func readFiles(ctx context.Context, s *site) (float64, error) {
	buf := make([]byte, 2*lab.BlockSize)
	n := 0
	err := filepath.WalkDir(s.files(), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		return lab.WithFile(name, os.O_RDONLY, false, func(f *os.File) error {
			if got, err := f.Read(buf); got != lab.BlockSize {
				return fmt.Errorf("read %s: %d bytes: %w", d.Name(), got, err)
			}
			return ctx.Err()
		})
	})
	if err == nil && n != s.sizes.files {
		err = fmt.Errorf("read %d files instead of %d", n, s.sizes.files)
	}
	return float64(n), err
}

func list(ctx context.Context, s *site) (float64, error) {
	return once, lab.Program(ctx, s.dir, "", "ls", "-lR", s.files())
}
