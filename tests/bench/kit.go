package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// noisePool is how much noise there is, in bytes.
const noisePool = 4 << 20

// kit is what the steps work with: the same for all peers. Its files lie on a tmpfs, so that dropping the page cache
// does not make reading them a part of the work.
type kit struct {
	dir  string
	pool []byte
}

// newKit makes a kit in the directory dir.
func newKit(ctx context.Context, dir string, z sizes) (*kit, error) {
	k := &kit{dir: dir, pool: make([]byte, noisePool+sequenceSize)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(k.pool) // never fails
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if err := k.makeArchive(z.tree); err != nil {
		return nil, fmt.Errorf("make archive: %w", err)
	}
	if err := k.makeRepository(ctx, z.repo); err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	return k, nil
}

func (k *kit) archive() string    { return filepath.Join(k.dir, "tree.tar") }
func (k *kit) repository() string { return filepath.Join(k.dir, "repository.git") }

// noise returns n bytes, at most sequenceSize, that do not compress; others for other places.
func (k *kit) noise(place int64, n int) []byte {
	at := place / blockSize * 4099 % noisePool // blocks at different places do not begin alike
	return k.pool[at : at+int64(n)]
}

// shuffled returns the numbers of the blocks of a file of size bytes in an order that is the round's.
func shuffled(size int64, round int) []int64 {
	blocks := make([]int64, size/blockSize)
	for i := range blocks {
		blocks[i] = int64(i)
	}
	rng := rand.New(rand.NewPCG(uint64(round), 1))
	rng.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	return blocks
}

// makeArchive makes an archive of n files in directories of 50, of 1 byte to 16 KiB.
func (k *kit) makeArchive(n int) error {
	return withFile(k.archive(), os.O_WRONLY|os.O_CREATE, false, func(f *os.File) error {
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
			if _, err := w.Write(k.noise(int64(i)*blockSize, int(h.Size))); err != nil {
				return err
			}
		}
		return w.Close()
	})
}

// makeRepository makes a bare repository of two commits with n text files, half of which the second has changed.
func (k *kit) makeRepository(ctx context.Context, n int) error {
	if err := program(ctx, k.dir, "", "git", "init", "-q", "--bare", "-b", "main", k.repository()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "git", "-C", k.repository(), "fast-import", "--quiet")
	cmd.Env = environ()
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w := bufio.NewWriter(in)
	writeCommits(w, n)
	return errors.Join(w.Flush(), in.Close(), cmd.Wait())
}

// writeCommits writes the commits as git fast-import reads them. Errors are left to w.
func writeCommits(w io.Writer, n int) {
	rng := rand.New(rand.NewPCG(3, 3))
	for commit := range 2 {
		fmt.Fprintf(w, "commit refs/heads/main\ncommitter A <a@example.org> %d +0000\ndata 2\nc\n", 1_700_000_000+commit)
		for i := 0; i < n; i += 1 + commit {
			text := words(rng, 1+rng.IntN(8<<10))
			fmt.Fprintf(w, "M 100644 inline dir%02d/sub%03d/file%05d.txt\ndata %d\n%s\n", i/1000, i/50, i, len(text), text)
		}
	}
}

// words returns text of about n bytes that compresses as source code does.
func words(rng *rand.Rand, n int) []byte {
	var text []byte
	for len(text) < n {
		text = fmt.Appendf(text, "%x the owl and the pussycat\n", rng.Uint32())
	}
	return text
}
