package keystore

import "fmt"

// Bounds of a key file. Whatever exceeds them is refused before it is believed.
const (
	MaxSize        = 512 << 10 // bytes of a key file
	MaxSlots       = 32
	MaxEpochs      = 1024    // key epochs in a keyring
	MaxLabel       = 128     // bytes of a slot's label
	MaxProviderKey = 1024    // bytes of a master key's name
	MaxWrapped     = 6 << 10 // bytes of what a provider made of W: as much as AWS KMS returns
	maxKind        = 32      // bytes
)

// The cipher suites of a vault.
const (
	SuiteAESGCM            = 1 // AES-256-GCM
	SuiteXChaCha20Poly1305 = 2
)

// Params are the sizes and the cipher suite of a vault, fixed when it is made.
type Params struct {
	Suite      uint8  // SuiteAESGCM or SuiteXChaCha20Poly1305
	BlockSize  uint32 // bytes of plaintext in a block: a power of two, 512 to 1 MiB
	SmallFile  uint32 // bytes up to which a file's content lies in its header: at most 64 blocks and 1 MiB
	ExtentSize uint32 // bytes of plaintext in an extent: a multiple of BlockSize, at most 2^20 blocks and 1 GiB
}

// DefaultParams returns the usual sizes with a suite.
func DefaultParams(suite uint8) Params {
	return Params{Suite: suite, BlockSize: 4 << 10, SmallFile: 16 << 10, ExtentSize: 4 << 20}
}

func (p Params) check() error {
	switch {
	case p.Suite != SuiteAESGCM && p.Suite != SuiteXChaCha20Poly1305:
		return fmt.Errorf("suite %d: %w", p.Suite, ErrInvalid)
	case p.BlockSize < 512 || p.BlockSize > 1<<20 || p.BlockSize&(p.BlockSize-1) != 0:
		return fmt.Errorf("block size %d: %w", p.BlockSize, ErrInvalid)
	case p.SmallFile > 64*p.BlockSize || p.SmallFile > 1<<20:
		return fmt.Errorf("small-file size %d: %w", p.SmallFile, ErrInvalid)
	case p.ExtentSize < p.BlockSize || p.ExtentSize > 1<<30 || p.ExtentSize%p.BlockSize != 0 || p.ExtentSize/p.BlockSize > 1<<20:
		return fmt.Errorf("extent size %d: %w", p.ExtentSize, ErrInvalid)
	}
	return nil
}
