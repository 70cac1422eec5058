package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
)

func (a *app) keyGenerateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "generate FILE",
		Short:   "Write a new random key to a new key file",
		Example: `  envfs key generate ~/vault.key`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := secret.GenerateKeyFile(args[0]); err != nil {
				return fmt.Errorf("key generate: %w", err)
			}
			a.say("Keep a copy of %s in a safe place: whoever has it can open the vaults that it opens.", printable(args[0]))
			return nil
		},
	}
}
