package main

import (
	"github.com/spf13/cobra"

	"envfs/keystore"
)

// kdfVerb is the verb under which this program starts itself to pay for a passphrase.
const kdfVerb = "kdf"

func (a *app) kdfCommand() *cobra.Command {
	return &cobra.Command{
		Use:    kdfVerb,
		Short:  "Derive a key from a passphrase (started by envfs itself)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return keystore.ServeKDF(a.in, a.out) },
	}
}
