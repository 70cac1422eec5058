package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
)

func (a *app) kmsBackupCommand() *cobra.Command {
	var src secret.Source
	c := &cobra.Command{
		Use:   "backup DIR FILE",
		Short: "Write a copy of a KMS to a new file, while it runs or not",
		Long: `Write a copy of a KMS, as of one moment, to the new file FILE, a tar archive. Unpacked into an empty directory it is a KMS again,
opened by what seals the original now. Whoever has it and the passphrase or key file has all keys.`,
		Example: `  envfs kms backup ~/kms /media/stick/kms.tar
  mkdir -m 700 ~/kms2 && tar -xf /media/stick/kms.tar -C ~/kms2`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atKMS(c.Context(), "backup", args[0], &src, func(d kmsDesk) error {
				if err := backUpKMS(c.Context(), d, args[1]); err != nil {
					return err
				}
				a.say("The KMS is in %s.", shellQuote(args[1]))
				return nil
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	return c
}

// backUpKMS writes a backup to a new file, which is there only if it is complete and durable.
func backUpKMS(ctx context.Context, d kmsDesk, name string) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	err = d.backup(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
