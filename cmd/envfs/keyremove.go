package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
)

func (a *app) keyRemoveCommand() *cobra.Command {
	var (
		src   secret.Source
		force bool
	)
	c := &cobra.Command{
		Use:   "remove STORE SLOT",
		Short: "Remove a slot",
		Long: `Remove a slot, named by its id, the beginning of it, or its label. The root key and the key epoch change at once:
who held the slot cannot read what is written from now on, even with a copy of the old key file.`,
		Example: `  envfs key remove ~/vault laptop`,
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.requestKeys(c.Context(), args[0], &src, func(kf *keystore.File) (*control.KeyChange, error) {
				s, err := findSlot(kf, args[1])
				if err == nil && len(kf.Slots()) == 1 {
					err = keystore.ErrLastSlot
				}
				return &control.KeyChange{Op: opRemove, Slot: s.ID.String(), Force: force}, err
			})
			if err != nil {
				return fmt.Errorf("key remove: %w", err)
			}
			return nil
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().BoolVar(&force, "force", false, "remove also the slot that opens the vault now")
	return c
}
