package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
)

func (a *app) keyAddCommand() *cobra.Command {
	var (
		src secret.Source
		o   newKeyFlags
	)
	c := &cobra.Command{
		Use:   "add STORE",
		Short: "Add a passphrase, a key file, a master key of a KMS or a recovery code",
		Example: `  envfs key add ~/vault                                  another passphrase
  envfs key add ~/vault --new-keyfile ~/vault.key --label laptop
  envfs key add ~/vault --new-key awskms://alias/photos
  envfs key add ~/vault --new-recovery`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.requestKeys(c.Context(), args[0], &src, func(kf *keystore.File) (*control.KeyChange, error) {
				k := &control.KeyChange{Op: opAdd}
				return k, o.read(c.Context(), a, args[0], kf, k)
			})
			if err != nil {
				return fmt.Errorf("key add: %w", errors.Join(err, o.undo(c.Context(), args[0], err)))
			}
			return nil
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	o.declare(c, &src)
	return c
}
