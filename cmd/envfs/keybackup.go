package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
)

func (a *app) keyBackupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup STORE FILE",
		Short: "Write a copy of the key file to a new file",
		Long: `Write a copy of the vault's key file, with all slots as they are now, to the new file FILE. It opens nothing by itself: whoever has it needs
a passphrase or key that opens one of its slots. A vault whose key file is lost cannot be opened by anybody: keep a copy elsewhere, and a
new one after each change of the slots. A backup of the whole store holds it, too.`,
		Example: `  envfs key backup ~/vault /media/stick/vault.keys`,
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := vaultPath(args[0])
			if err != nil {
				return fmt.Errorf("key backup: %w", err)
			}
			kf, _, err := peek(c.Context(), path, "")
			if err != nil {
				return fmt.Errorf("key backup: %w", err)
			}
			if err := secret.WriteNew(args[1], string(kf.Bytes())); err != nil {
				return fmt.Errorf("key backup: %w", err)
			}
			a.say("%s holds generation %d of the key file, with %s.", args[1], kf.Generation(), plural(int64(len(kf.Slots())), "slot", "slots"))
			return nil
		},
	}
	a.placeFlags(c.Flags())
	return c
}
