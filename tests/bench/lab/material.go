package lab

import (
	"errors"
	"math/rand/v2"
	"os"
)

const (
	// BlockSize is the unit of random reading and writing, in bytes.
	BlockSize = 4096
	// SequenceSize is the size of one call of write(2) or read(2) in sequence, in bytes.
	SequenceSize = 1 << 20
	// noisePool is how much noise there is, in bytes.
	noisePool = 4 << 20
)

// Noise is bytes that do not compress.
type Noise struct{ pool []byte }

// NewNoise returns always the same.
func NewNoise() Noise {
	n := Noise{make([]byte, noisePool+SequenceSize)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(n.pool) // never fails
	return n
}

// At returns size bytes, at most SequenceSize, others for other places.
func (n Noise) At(place int64, size int) []byte {
	at := place / BlockSize * 4099 % noisePool // blocks at different places do not begin alike
	return n.pool[at : at+int64(size)]
}

// Shuffled returns the numbers of the blocks of a file of size bytes in an order that is the round's.
func Shuffled(size int64, round int) []int64 {
	blocks := make([]int64, size/BlockSize)
	for i := range blocks {
		blocks[i] = int64(i)
	}
	rng := rand.New(rand.NewPCG(uint64(round), 1))
	rng.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	return blocks
}

// WithFile opens a file, has fn work with it and closes it; if synced, fsync is called before.
func WithFile(name string, flags int, synced bool, fn func(*os.File) error) error {
	f, err := os.OpenFile(name, flags, 0o644)
	if err != nil {
		return err
	}
	err = fn(f)
	if err == nil && synced {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
