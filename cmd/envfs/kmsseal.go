package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"envfs/blockcrypt"
	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
	"envfs/keystore/masterkey"
	"envfs/kms"
	"envfs/kms/seal"
	"envfs/kms/store"
)

// kmsCredential is the beginning of the names of the credentials that systemd passes to the service.
const kmsCredential = "envfs-kms"

// kmsFlags declares the flags of what seals a KMS.
func kmsFlags(f *pflag.FlagSet, src *secret.Source) {
	src.Flags(f, "")
	src.KeyFlag(f, "")
	src.IdentityFlag(f)
	src.Credential = kmsCredential + ".pin"
}

// kmsSealer returns what unseals the KMS in dir, from where the user says, from systemd, by the provider for which this
// machine is configured, or by asking. wipe is to be called when it is not needed any more.
func (a *app) kmsSealer(ctx context.Context, dir string, src *secret.Source) (s store.Sealer, wipe func(), err error) {
	b, err := kmsSecret(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	if len(src.Keys) > 0 {
		return a.masterSealer(ctx, src, &b, a.wrappers)
	}
	if b.Empty() {
		kind, err := store.Kind(kms.StorePath(dir))
		if err != nil {
			return nil, nil, err
		}
		if flag, ok := masterkey.Flag(kind); ok {
			return a.masterSealer(ctx, src, &b, func(ctx context.Context, src *secret.Source) ([]keystore.Wrapper, error) {
				configured, errs := masterkey.Configured(ctx, []string{kind}, a.machine(src))
				if len(configured) == 0 {
					return nil, hint(errors.Join(append(errs, fmt.Errorf("unseal: this KMS is sealed by: %s", kind))...), "give %s", flag)
				}
				return configured, nil
			})
		}
		if kind != seal.KindPassphrase {
			return nil, nil, hint(fmt.Errorf("unseal: this KMS is sealed by: %s", kind), "give --keyfile FILE")
		}
		if b.Passphrase, err = a.term.Passphrase(ctx, "Passphrase of the KMS: "); err != nil {
			return nil, nil, fmt.Errorf("unseal: %w", err)
		}
	}
	return localSealer(ctx, &b, keystore.KDFParams{})
}

// masterSealer returns the seal of the one master key that find finds. b is what else the user has given: nothing, or
// it is refused.
func (a *app) masterSealer(ctx context.Context, src *secret.Source, b *secret.Bundle,
	find func(context.Context, *secret.Source) ([]keystore.Wrapper, error)) (s store.Sealer, wipe func(), err error) {
	defer b.Wipe()
	if !b.Empty() || len(src.Keys) > 1 {
		return nil, nil, fmt.Errorf("%w: a KMS is sealed by one thing: a passphrase, a key file or one master key", errUsage)
	}
	found, err := find(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	return seal.NewMasterKey(heldKey{found[0]}), a.closeTokens, nil
}

// heldKey is a master key for which the KMS is what a vault is elsewhere.
type heldKey struct{ keystore.Wrapper }

func (h heldKey) slot(id [16]byte) keystore.SlotInfo {
	return keystore.SlotInfo{Vault: blockcrypt.ID(id), Kind: h.Kind()}
}

// Wrap implements seal.Wrapper.
func (h heldKey) Wrap(ctx context.Context, id [16]byte) (w []byte, key string, wrapped []byte, err error) {
	w, d, err := h.Wrapper.Wrap(ctx, h.slot(id))
	return w, d.Key, d.Wrapped, err
}

// Unwrap implements seal.Wrapper.
func (h heldKey) Unwrap(ctx context.Context, id [16]byte, key string, wrapped []byte) ([]byte, error) {
	s := h.slot(id)
	s.Provider = keystore.ProviderData{Key: key, Wrapped: wrapped}
	return h.Secret(ctx, s)
}

// kmsSecret reads a secret from where the user says, or from what systemd passes to the service.
func kmsSecret(ctx context.Context, src *secret.Source) (secret.Bundle, error) {
	if at := os.Getenv("CREDENTIALS_DIRECTORY"); at != "" && !src.Given() {
		return secret.Credentials(at, kmsCredential)
	}
	return src.Read(ctx)
}

// newKMSSealer returns what is to seal the KMS in dir from now on, from where the user says, from systemd, or by asking.
func (a *app) newKMSSealer(ctx context.Context, dir string, src *secret.Source, cost keystore.KDFParams) (s store.Sealer, wipe func(), err error) {
	b, err := kmsSecret(ctx, src)
	if err == nil && len(src.Keys) > 0 {
		return a.masterSealer(ctx, src, &b, func(ctx context.Context, src *secret.Source) ([]keystore.Wrapper, error) {
			return a.newWrappers(ctx, src, dir)
		})
	}
	if err == nil && b.Empty() {
		b.Passphrase, err = a.term.NewPassphrase(ctx, "New passphrase of the KMS: ")
	}
	if err != nil {
		b.Wipe()
		return nil, nil, err
	}
	return localSealer(ctx, &b, cost)
}

// localSealer returns the seal of the one secret in a bundle. wipe wipes the bundle, and the seal works until then.
func localSealer(ctx context.Context, b *secret.Bundle, cost keystore.KDFParams) (s store.Sealer, wipe func(), err error) {
	if s, err = sealerOf(ctx, b, cost); err != nil {
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
		Short: "Seal the keys by another passphrase, key file or master key",
		Long: `Seal the keys by another passphrase, key file or master key in a TPM, an HSM or another KMS. The service must not run. Backups made
before are still opened by the old one. A master key that cannot be had any more leaves the KMS sealed: keep a backup under a key file.`,
		Example: `  envfs kms reseal ~/kms
  envfs kms reseal ~/kms --new-keyfile /media/stick/kms.key
  envfs kms reseal ~/kms --keyfile /media/stick/kms.key --new-key tpm:`,
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
	kmsFlags(c.Flags(), &old)
	next.Flags(c.Flags(), "new-")
	next.KeyFlag(c.Flags(), "new-")
	cost.declare(c.Flags())
	return c
}

func (a *app) kmsReseal(ctx context.Context, dir string, old, next *secret.Source, cost keystore.KDFParams) error {
	s, err := a.openKMS(ctx, dir, old)
	if err != nil {
		return err
	}
	next.TPM, next.Token, next.Identities = old.TPM, old.Token, old.Identities
	to, wipe, err := a.newKMSSealer(ctx, dir, next, cost)
	if err == nil {
		err = s.Reseal(ctx, localCall(), to)
		wipe()
	}
	return errors.Join(err, s.Close())
}
