package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
	"envfs/kms"
	"envfs/kms/seal"
	"envfs/kms/store"
)

// kmsCredential is the beginning of the names of the credentials that systemd passes to the service.
const kmsCredential = "envfs-kms"

// kmsSealer returns what unseals the KMS in dir, from where the user says, from systemd, or by asking. wipe is to be called when it is not
// needed any more.
func (a *app) kmsSealer(ctx context.Context, dir string, src *secret.Source) (s store.Sealer, wipe func(), err error) {
	b, err := kmsSecret(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	if b.Passphrase == nil && b.KeyFile == nil {
		kind, err := store.Kind(kms.StorePath(dir))
		if err != nil {
			return nil, nil, err
		}
		if kind != seal.KindPassphrase {
			return nil, nil, hint(fmt.Errorf("unseal: this KMS is sealed by: %s", kind), "give --keyfile FILE")
		}
		if b.Passphrase, err = a.term.Passphrase(ctx, "Passphrase of the KMS: "); err != nil {
			return nil, nil, fmt.Errorf("unseal: %w", err)
		}
	}
	s, err = sealerOf(ctx, &b, keystore.KDFParams{})
	if err != nil {
		b.Wipe()
		return nil, nil, err
	}
	return s, b.Wipe, nil
}

// kmsSecret reads a secret from where the user says, or from what systemd passes to the service.
func kmsSecret(ctx context.Context, src *secret.Source) (secret.Bundle, error) {
	if at := os.Getenv("CREDENTIALS_DIRECTORY"); at != "" && !src.Given() {
		return secret.Credentials(at, kmsCredential)
	}
	return src.Read(ctx)
}

// newKMSSealer returns what is to seal a KMS from now on, from where the user says, from systemd, or by asking.
func (a *app) newKMSSealer(ctx context.Context, src *secret.Source, cost keystore.KDFParams) (s store.Sealer, wipe func(), err error) {
	b, err := kmsSecret(ctx, src)
	if err == nil && b.Passphrase == nil && b.KeyFile == nil {
		b.Passphrase, err = a.term.NewPassphrase(ctx, "New passphrase of the KMS: ")
	}
	if err == nil {
		s, err = sealerOf(ctx, &b, cost)
	}
	if err != nil {
		b.Wipe()
		return nil, nil, err
	}
	return s, b.Wipe, nil
}

// sealerOf returns the seal of the one secret in a bundle. It works until the bundle is wiped.
func sealerOf(ctx context.Context, b *secret.Bundle, cost keystore.KDFParams) (store.Sealer, error) {
	switch {
	case b.KeyFile != nil && b.Passphrase != nil:
		return nil, fmt.Errorf("%w: a KMS is sealed by a passphrase or by a key file, not by both", errUsage)
	case b.KeyFile != nil:
		p, err := keystore.KeyFile(b.KeyFile)
		if err != nil {
			return nil, err
		}
		key, err := p.Secret(ctx, keystore.SlotInfo{})
		if err != nil {
			return nil, err
		}
		clear(b.KeyFile)
		b.KeyFile = key // which is what is wiped now
		return seal.NewKeyFile(key)
	}
	derive, err := deriver()
	if err != nil {
		return nil, err
	}
	return seal.NewPassphrase(b.Passphrase, seal.Cost(cost), derive), nil
}

func (a *app) kmsResealCommand() *cobra.Command {
	var (
		old, next secret.Source
		cost      kdfFlags
	)
	c := &cobra.Command{
		Use:   "reseal DIR",
		Short: "Seal the keys by another passphrase or key file",
		Long: `Seal the keys by another passphrase or key file. The service must not run. Backups made before are still opened by the
old one.`,
		Example: `  envfs kms reseal ~/kms
  envfs kms reseal ~/kms --new-keyfile /media/stick/kms.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			params, err := cost.params(a)
			if err != nil {
				return err
			}
			if err := a.kmsReseal(c.Context(), args[0], &old, &next, params); err != nil {
				return fmt.Errorf("kms reseal: %w", err)
			}
			a.say("Done: %s is sealed by the new one.", shellQuote(args[0]))
			return nil
		},
	}
	old.Flags(c.Flags(), "")
	next.Flags(c.Flags(), "new-")
	cost.declare(c.Flags())
	return c
}

func (a *app) kmsReseal(ctx context.Context, dir string, old, next *secret.Source, cost keystore.KDFParams) error {
	s, err := a.openKMS(ctx, dir, old)
	if err != nil {
		return err
	}
	to, wipe, err := a.newKMSSealer(ctx, next, cost)
	if err == nil {
		err = s.Reseal(ctx, localCall(), to)
		wipe()
	}
	return errors.Join(err, s.Close())
}
