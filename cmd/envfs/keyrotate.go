package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
)

func (a *app) keyRotateCommand() *cobra.Command {
	var src secret.Source
	c := &cobra.Command{
		Use:   "rotate STORE",
		Short: "Begin a new key epoch",
		Long: `Make a new root key and begin a new key epoch, with the slots as they are: one commit, whatever the vault's size.

Every file gets a new data key with its next write. 'envfs key rewrap' wraps the data keys that there are under the new epoch;
'envfs key reencrypt' makes new ones for what lies there.`,
		Example: `  envfs key rotate ~/vault && envfs key rewrap ~/vault`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.requestKeys(c.Context(), args[0], &src, func(*keystore.File) (*control.KeyChange, error) {
				return &control.KeyChange{Op: opRotate}, nil
			})
			if err != nil {
				return fmt.Errorf("key rotate: %w", err)
			}
			return nil
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	return c
}
