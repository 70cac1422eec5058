package keystore

import (
	"context"
	"fmt"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sys/unix"

	"envfs/blockcrypt"
)

// KDFParams are the costs of Argon2id (RFC 9106).
type KDFParams struct {
	MemoryKiB   uint32
	Passes      uint32
	Parallelism uint8
}

// Bounds of the costs. Those of all slots of a file together may not exceed what one slot may cost.
const (
	minKDFMemory = 64 << 10 // KiB
	maxKDFMemory = 2 << 20  // KiB
	minKDFPasses = 3
	maxKDFPasses = 16
	maxKDFLanes  = 16
	maxKDFSum    = maxKDFMemory * maxKDFPasses // KiB written, over all passes and slots

	kdfSaltSize = 32
	maxPass     = 64 << 10 // bytes of a passphrase
)

// DefaultKDF returns what a passphrase costs on this machine: 256 MiB, 3 passes, 4 lanes, or less memory, down to
// 64 MiB, if that is more than an eighth of the machine's. lowered tells that it is less, which the user should hear.
func DefaultKDF() (p KDFParams, lowered bool) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return kdfFor(1 << 62)
	}
	return kdfFor(uint64(info.Totalram) * uint64(info.Unit))
}

// kdfFor returns the cost for a machine with so many bytes of memory.
func kdfFor(total uint64) (p KDFParams, lowered bool) {
	p = KDFParams{MemoryKiB: 256 << 10, Passes: 3, Parallelism: 4}
	for p.MemoryKiB > minKDFMemory && uint64(p.MemoryKiB)<<10 > total/8 {
		p.MemoryKiB /= 2
		lowered = true
	}
	return p, lowered
}

// work returns the KiB that a derivation writes over all passes.
func (p KDFParams) work() uint64 { return uint64(p.MemoryKiB) * uint64(p.Passes) }

func (p KDFParams) check() error {
	switch {
	case p.MemoryKiB < minKDFMemory || p.MemoryKiB > maxKDFMemory:
		return fmt.Errorf("key derivation with %d KiB of memory, not %d to %d: %w", p.MemoryKiB, minKDFMemory, maxKDFMemory, ErrInvalid)
	case p.Passes < minKDFPasses || p.Passes > maxKDFPasses:
		return fmt.Errorf("key derivation with %d passes, not %d to %d: %w", p.Passes, minKDFPasses, maxKDFPasses, ErrInvalid)
	case p.Parallelism < 1 || p.Parallelism > maxKDFLanes:
		return fmt.Errorf("key derivation with %d lanes, not 1 to %d: %w", p.Parallelism, maxKDFLanes, ErrInvalid)
	}
	return nil
}

// A Deriver computes Argon2id (RFC 9106, version 0x13, 32 bytes, no secret and no associated data). Implementations
// must be safe for concurrent use and must not keep the passphrase.
type Deriver interface {
	Argon2id(ctx context.Context, pass, salt []byte, memKiB, passes uint32, par uint8) ([32]byte, error)
}

type inProcess struct{}

// InProcess returns a Deriver that computes in this process, whose heap then keeps Argon2's memory until it is used
// again. Programs use [ChildProcess].
func InProcess() Deriver { return inProcess{} }

func (inProcess) Argon2id(ctx context.Context, pass, salt []byte, memKiB, passes uint32, par uint8) (w [32]byte, err error) {
	if err := ctx.Err(); err != nil {
		return w, err
	}
	if err := (KDFParams{memKiB, passes, par}).check(); err != nil {
		return w, err
	}
	key := argon2.IDKey(pass, salt, passes, memKiB, par, blockcrypt.KeySize)
	copy(w[:], key)
	clear(key)
	return w, nil
}
