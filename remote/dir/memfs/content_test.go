package memfs

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

func newRand(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestContentIsAByteSlice(t *testing.T) {
	rng := newRand(t)
	for range 200 {
		var c content
		var want []byte
		var old content // a copy, which must stay as it was
		var oldWant []byte
		for range 40 {
			switch rng.IntN(8) {
			case 0:
				size := rng.Int64N(300)
				c.truncate(size)
				for int64(len(want)) < size {
					want = append(want, 0)
				}
				want = want[:size]
			case 1:
				old, oldWant = c.share(), bytes.Clone(want)
			default:
				off, data := rng.IntN(260), bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, rng.IntN(50))
				if rng.IntN(2) == 0 {
					off = len(want)
				}
				c.write(int64(off), data)
				if len(data) > 0 {
					for len(want) < off+len(data) {
						want = append(want, 0)
					}
					copy(want[off:], data)
				}
			}
			check(t, &c, want, rng)
			check(t, &old, oldWant, rng)
		}
	}
}

func check(t *testing.T, c *content, want []byte, rng *rand.Rand) {
	t.Helper()
	if c.size != int64(len(want)) {
		t.Fatalf("size %d, want %d", c.size, len(want))
	}
	off := rng.IntN(len(want) + 2)
	p := make([]byte, rng.IntN(60))
	n, err := c.readAt(p, int64(off))
	expect := want[min(off, len(want)):]
	expect = expect[:min(len(p), len(expect))]
	if !bytes.Equal(p[:n], expect) {
		t.Fatalf("read [%d:%d] of %d: %x, want %x", off, off+len(p), len(want), p[:n], expect)
	}
	if (n < len(p)) != (err == io.EOF) {
		t.Fatalf("read %d of %d: %v", n, len(p), err)
	}
}
