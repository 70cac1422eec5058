package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
	"envfs/kms"
)

// kmsListen is where the service listens unless told otherwise.
const kmsListen = "127.0.0.1:8550"

func (a *app) kmsInitCommand() *cobra.Command {
	var (
		src       secret.Source
		cost      kdfFlags
		config    = kms.DefaultConfig
		accessOut string
	)
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a KMS",
		Long: `Make a KMS in DIR: its keys sealed by a passphrase, which is asked for twice, by a key file, or by a master key in a TPM,
an HSM or another KMS; a certificate authority of its own; and the user admin, whose access key is printed, once, as variables of the shell.`,
		Example: `  envfs kms init ~/kms
  envfs key generate ~/kms.key && envfs kms init ~/kms --keyfile ~/kms.key --access-out ~/kms.credentials
  envfs kms init ~/kms --key tpm:`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			params, err := cost.params(a)
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return fmt.Errorf("kms init: %w", err)
			}
			if _, err := os.Stat(kms.StorePath(dir)); err == nil {
				return fmt.Errorf("kms init %s: there is a KMS already", args[0])
			}
			sealer, wipe, err := a.newKMSSealer(c.Context(), dir, &src, params)
			if err != nil {
				return fmt.Errorf("kms init: %w", err)
			}
			defer wipe()
			access, err := kms.Init(c.Context(), dir, config, sealer, time.Now())
			if err != nil {
				return fmt.Errorf("kms init %s: %w", args[0], err)
			}
			if err := a.giveAccess(access, kms.AdminUser, accessOut); err != nil {
				return fmt.Errorf("kms init %s: %w", args[0], errors.Join(err, errors.New("the KMS is made; `envfs kms user rekey` gives another access key")))
			}
			a.tellKMS(dir, config)
			return nil
		},
	}
	kmsFlags(c.Flags(), &src)
	cost.declare(c.Flags())
	c.Flags().StringVar(&config.Region, "region", config.Region, "the `REGION` in names of keys, which clients must use, too")
	c.Flags().StringVar(&config.Account, "account", config.Account, "the `ACCOUNT` in names of keys and users: 12 digits")
	accessOutFlag(c, &accessOut)
	return c
}

func accessOutFlag(c *cobra.Command, name *string) {
	c.Flags().StringVar(name, "access-out", "", "write the access key to the new file `FILE` (in the form of ~/.aws/credentials) instead of printing it")
}

// giveAccess prints an access key, or writes it to a new file that only its owner can read.
func (a *app) giveAccess(access *kms.Access, user, file string) error {
	if file == "" {
		_, err := fmt.Fprintf(a.out, "export AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\n", access.ID, access.Secret)
		return err
	}
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", access.ID, access.Secret)
	if err := secret.WriteNew(file, text); err != nil {
		return fmt.Errorf("write access key: %w", err)
	}
	a.say("The access key of %s is in %s.", user, printable(file))
	return nil
}

// tellKMS tells how a new KMS is run and used.
func (a *app) tellKMS(dir string, config kms.Config) {
	a.say(`The KMS is made. Run it:
  envfs kms serve %s
Its clients need the access key above and
  export AWS_REGION=%s
  export AWS_ENDPOINT_URL_KMS=https://%s
  export AWS_CA_BUNDLE=%s`, shellQuote(dir), config.Region, kmsListen, shellQuote(kms.CAPath(dir)))
}
