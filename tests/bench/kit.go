package main

import (
	"archive/tar"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"envfs/tests/bench/lab"
)

// kit is what the steps work with: the same for all peers. Its files lie on a tmpfs, so that dropping the page cache
// does not make reading them a part of the work.
type kit struct {
	dir   string
	noise lab.Noise
}

// newKit makes a kit in the directory dir.
func newKit(ctx context.Context, dir string, z sizes) (*kit, error) {
	k := &kit{dir: dir, noise: lab.NewNoise()}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if err := k.makeArchive(z.tree); err != nil {
		return nil, fmt.Errorf("make archive: %w", err)
	}
	if err := lab.MakeRepository(ctx, k.repository(), z.repo); err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	return k, nil
}

func (k *kit) archive() string    { return filepath.Join(k.dir, "tree.tar") }
func (k *kit) repository() string { return filepath.Join(k.dir, "repository.git") }

// makeArchive makes an archive of n files in directories of 50, of 1 byte to 16 KiB.
func (k *kit) makeArchive(n int) error {
	return lab.WithFile(k.archive(), os.O_WRONLY|os.O_CREATE, false, func(f *os.File) error {
		rng := rand.New(rand.NewPCG(2, 2))
		w := tar.NewWriter(f)
		header := tar.Header{ModTime: time.Unix(1_700_000_000, 0), Uid: os.Getuid(), Gid: os.Getgid()}
		for i := range n {
			h := header
			dir := fmt.Sprintf("part%02d/sub%03d/", i/1000, i/50)
			if i%50 == 0 {
				h.Typeflag, h.Name, h.Mode = tar.TypeDir, dir, 0o755
				if err := w.WriteHeader(&h); err != nil {
					return err
				}
			}
			h.Typeflag, h.Name, h.Mode, h.Size = tar.TypeReg, fmt.Sprintf("%sfile%05d.txt", dir, i), 0o644, 1+rng.Int64N(16<<10)
			if err := w.WriteHeader(&h); err != nil {
				return err
			}
			if _, err := w.Write(k.noise.At(int64(i)*lab.BlockSize, int(h.Size))); err != nil {
				return err
			}
		}
		return w.Close()
	})
}
