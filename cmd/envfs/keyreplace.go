package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
)

func (a *app) keyReplaceCommand() *cobra.Command {
	var (
		src secret.Source
		o   newKeyFlags
	)
	c := &cobra.Command{
		Use:   "replace STORE SLOT",
		Short: "Put a new key in the place of a slot",
		Long: `Put a new passphrase, key file or recovery code in the place of a slot: so a passphrase is changed. The root key and the
key epoch change, as when a slot is removed.`,
		Example: `  envfs key replace ~/vault k3vq`,
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.requestKeys(c.Context(), args[0], &src, func(kf *keystore.File) (*control.KeyChange, error) {
				s, err := findSlot(kf, args[1])
				if err != nil {
					return nil, err
				}
				k := &control.KeyChange{Op: opReplace, Slot: s.ID.String()}
				if o.label == "" {
					o.label = s.Label
				}
				return k, o.read(c.Context(), a, args[0], kf, k)
			})
			if err != nil {
				return fmt.Errorf("key replace: %w", errors.Join(err, o.undo(c.Context(), args[0], err)))
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
