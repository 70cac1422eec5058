package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
)

// minKDF is the least that a passphrase may cost: RFC 9106's second recommendation.
var minKDF = keystore.KDFParams{MemoryKiB: 64 << 10, Passes: 3}

// maxKDF is the most that it may cost.
var maxKDF = keystore.KDFParams{MemoryKiB: 2 << 20, Passes: 16}

// kdfFlags are the costs of a new passphrase.
type kdfFlags struct {
	memory, passes uint32
}

func (k *kdfFlags) declare(f *pflag.FlagSet) {
	f.Uint32Var(&k.memory, "kdf-memory", 0, "memory that trying a passphrase costs, in `MIB` (default 256, less on a small machine; at least 64)")
	f.Uint32Var(&k.passes, "kdf-passes", 0, "passes over that memory (default 3; at least 3)")
}

// params returns the costs, the machine's defaults where none was given.
func (k *kdfFlags) params(a *app) (keystore.KDFParams, error) {
	p, lowered := keystore.DefaultKDF()
	if k.memory != 0 {
		if k.memory < minKDF.MemoryKiB>>10 || k.memory > maxKDF.MemoryKiB>>10 {
			return p, fmt.Errorf("%w: --kdf-memory must be at least %d and at most %d", errUsage, minKDF.MemoryKiB>>10, maxKDF.MemoryKiB>>10)
		}
		p.MemoryKiB = k.memory << 10
	} else if lowered {
		a.say("This machine has little memory: a passphrase will cost %d MiB to try instead of 256.", p.MemoryKiB>>10)
	}
	if k.passes != 0 {
		if k.passes < minKDF.Passes || k.passes > maxKDF.Passes {
			return p, fmt.Errorf("%w: --kdf-passes must be at least %d and at most %d", errUsage, minKDF.Passes, maxKDF.Passes)
		}
		p.Passes = k.passes
	}
	return p, nil
}

// newRecovery makes a recovery code: written to a file, or shown at the terminal and asked back.
func (a *app) newRecovery(ctx context.Context, out string) ([]byte, error) {
	code, err := keystore.NewRecoveryCode(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make recovery code: %w", err)
	}
	if out != "" {
		err = secret.WriteRecovery(out, code)
	} else {
		err = a.term.ShowRecovery(ctx, code)
	}
	if err != nil {
		return nil, fmt.Errorf("recovery code: %w", err)
	}
	return []byte(code), nil
}

// newSlots returns a slot for each secret in b.
func newSlots(b *secret.Bundle, label string, kdf keystore.KDFParams) ([]keystore.NewSlot, error) {
	derive, err := deriver()
	if err != nil {
		return nil, err
	}
	providers, err := b.Providers(derive)
	if err != nil {
		return nil, err
	}
	if len(providers) == 0 {
		return nil, errors.New("make slot: no secret was given")
	}
	var slots []keystore.NewSlot
	for _, p := range providers {
		s := keystore.NewSlot{Kind: p.Kind(), Label: label, Provider: p}
		if p.Kind() == keystore.KindPassphrase {
			s.KDF = kdf
		}
		slots = append(slots, s)
	}
	return slots, nil
}
