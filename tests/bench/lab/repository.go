package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
)

// MakeRepository makes a bare repository of two commits with n text files, half of which the second has changed.
func MakeRepository(ctx context.Context, path string, n int) error {
	if err := Program(ctx, "/", "", "git", "init", "-q", "--bare", "-b", "main", path); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "git", "-C", path, "fast-import", "--quiet")
	cmd.Env = Environ()
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
