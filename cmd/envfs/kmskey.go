package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
)

func (a *app) kmsKeyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Show and change the keys of a KMS",
		Long: `Show and change the keys of a KMS. KEY is a key's id, its ARN, or alias/NAME.

Who administers a KMS on its machine is not bound by key policies, and uses no key: it does not encrypt or decrypt.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.kmsKeyListCommand(), a.kmsKeyCreateCommand(), a.kmsKeyPolicyCommand(), a.kmsKeyRotateCommand(), a.kmsKeyDeleteCommand(), a.kmsKeyAliasCommand(),
		a.kmsKeyChange("enable", "Enable a key", "EnableKey", "The key is enabled."),
		a.kmsKeyChange("disable", "Disable a key: it encrypts and decrypts nothing until it is enabled", "DisableKey", "The key is disabled."),
		a.kmsKeyChange("undelete", "Save a key that is to be deleted; it is disabled", "CancelKeyDeletion", "The key is saved. It is disabled."),
	)
	return c
}

// atKMS runs f at the desk of the KMS in dir.
func (a *app) atKMS(ctx context.Context, verb, dir string, src *secret.Source, f func(d kmsDesk) error) error {
	d, err := a.kmsDesk(ctx, dir, src)
	if err != nil {
		return fmt.Errorf("kms %s: %w", verb, err)
	}
	err = f(d)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("kms %s: %w", verb, err)
	}
	return nil
}

// keyName is the input of actions that need a key alone.
type keyName struct {
	KeyID string `json:"KeyId"`
}

// resolveKMSKey returns the id of a key that the user may name by an alias, which AWS's actions on keys do not take.
func resolveKMSKey(ctx context.Context, d kmsDesk, name string) (string, error) {
	if !strings.Contains(name, "alias/") {
		return name, nil
	}
	k, err := describeKMSKey(ctx, d, name)
	return k.KeyID, err
}

// kmsKey is what is shown of a key.
type kmsKey struct {
	KeyID        string `json:"KeyId"`
	Arn          string
	Description  string
	KeyState     string
	CreationDate float64
	DeletionDate float64  `json:",omitempty"`
	Aliases      []string `json:",omitempty"`
}

func describeKMSKey(ctx context.Context, d kmsDesk, name string) (kmsKey, error) {
	var out struct{ KeyMetadata kmsKey }
	err := d.do(ctx, "DescribeKey", keyName{name}, &out)
	return out.KeyMetadata, err
}

// kmsKeyChange is a verb that calls an action with a key alone.
func (a *app) kmsKeyChange(verb, short, action, done string) *cobra.Command {
	var src secret.Source
	c := &cobra.Command{
		Use:   verb + " DIR KEY",
		Short: short,
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atKMS(c.Context(), "key "+verb, args[0], &src, func(d kmsDesk) error {
				key, err := resolveKMSKey(c.Context(), d, args[1])
				if err == nil {
					err = d.do(c.Context(), action, keyName{key}, new(struct{}))
				}
				if err == nil {
					a.say("%s", done)
				}
				return err
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	return c
}

func (a *app) kmsKeyRotateCommand() *cobra.Command {
	var (
		src   secret.Source
		every int
		never bool
	)
	c := &cobra.Command{
		Use:   "rotate DIR KEY",
		Short: "Encrypt under a new backing key from now on; what was encrypted before still opens",
		Example: `  envfs kms key rotate ~/kms alias/app
  envfs kms key rotate ~/kms alias/app --every 365`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atKMS(c.Context(), "key rotate", args[0], &src, func(d kmsDesk) error {
				key, err := resolveKMSKey(c.Context(), d, args[1])
				if err != nil {
					return err
				}
				switch {
				case never:
					err = d.do(c.Context(), "DisableKeyRotation", keyName{key}, new(struct{}))
				case every != 0:
					err = d.do(c.Context(), "EnableKeyRotation", map[string]any{"KeyId": key, "RotationPeriodInDays": every}, new(struct{}))
				default:
					err = d.do(c.Context(), "RotateKeyOnDemand", keyName{key}, new(keyName))
				}
				if err == nil {
					a.say("Done.")
				}
				return err
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	c.Flags().IntVar(&every, "every", 0, "do so by itself every so many `DAYS` (90 to 2560), and not now")
	c.Flags().BoolVar(&never, "never", false, "do not do so by itself any more")
	c.MarkFlagsMutuallyExclusive("every", "never")
	return c
}

func (a *app) kmsKeyDeleteCommand() *cobra.Command {
	var (
		src  secret.Source
		days int
	)
	c := &cobra.Command{
		Use:   "delete DIR KEY",
		Short: "Delete a key, and with it what it has encrypted, after a time in which it can be saved",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atKMS(c.Context(), "key delete", args[0], &src, func(d kmsDesk) error {
				key, err := resolveKMSKey(c.Context(), d, args[1])
				if err != nil {
					return err
				}
				var out struct{ DeletionDate float64 }
				err = d.do(c.Context(), "ScheduleKeyDeletion", map[string]any{"KeyId": key, "PendingWindowInDays": days}, &out)
				if err == nil {
					a.say("The key is of no use from now on, and will be deleted at %s. Until then, `envfs kms key undelete` saves it.", moment(unixTime(out.DeletionDate)))
				}
				return err
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	c.Flags().IntVar(&days, "days", 30, "how many `DAYS` it can be saved (7 to 30)")
	return c
}

func (a *app) kmsKeyAliasCommand() *cobra.Command {
	var (
		src    secret.Source
		remove bool
	)
	c := &cobra.Command{
		Use:   "alias DIR NAME [KEY]",
		Short: "Give a key the name alias/NAME, or take that name away",
		Example: `  envfs kms key alias ~/kms app 6f1c0f0e-3a5b-4c7d-8e9f-a0b1c2d3e4f5
  envfs kms key alias ~/kms app --remove`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(c *cobra.Command, args []string) error {
			if remove == (len(args) == 3) {
				return usageError(c, fmt.Errorf("give KEY, or --remove"))
			}
			return a.atKMS(c.Context(), "key alias", args[0], &src, func(d kmsDesk) error {
				name := aliasName(args[1])
				if remove {
					return d.do(c.Context(), "DeleteAlias", map[string]string{"AliasName": name}, new(struct{}))
				}
				key, err := resolveKMSKey(c.Context(), d, args[2])
				if err != nil {
					return err
				}
				return setAlias(c.Context(), d, name, key)
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	c.Flags().BoolVar(&remove, "remove", false, "take the name away")
	return c
}

// aliasName returns the name of an alias, which users give with or without its prefix.
func aliasName(name string) string { return "alias/" + strings.TrimPrefix(name, "alias/") }

// setAlias gives a key a name, which another key may have had.
func setAlias(ctx context.Context, d kmsDesk, name, key string) error {
	in := map[string]string{"AliasName": name, "TargetKeyId": key}
	if _, err := describeKMSKey(ctx, d, name); err == nil {
		return d.do(ctx, "UpdateAlias", in, new(struct{}))
	}
	return d.do(ctx, "CreateAlias", in, new(struct{}))
}
