package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) keyListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list STORE",
		Short:   "List the slots",
		Example: `  envfs key list ~/vault`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := vaultPath(args[0])
			if err != nil {
				return fmt.Errorf("key list: %w", err)
			}
			kf, _, err := peek(c.Context(), path, "")
			if err != nil {
				return fmt.Errorf("key list: %w", err)
			}
			slots := slotsOf(kf)
			if !asJSON {
				a.listSlots(slots)
				return nil
			}
			for _, s := range slots {
				if err := a.object(s); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each slot")
	return c
}
