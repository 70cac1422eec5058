package main

import (
	"github.com/spf13/cobra"
)

func (a *app) kmsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "kms",
		Short: "Run a key management service that speaks AWS KMS's protocol",
		Long: `Run a key management service: one process, one directory, AWS KMS's protocol. Tools that know AWS KMS (aws, sops, the
SDKs) use it by its address.

DIR holds the keys, sealed by a passphrase or a key file, and the audit log. The verbs work while the service runs, through
a socket in DIR that only its user may use, and when it does not; then they need what unseals the keys.`,
		Example: `  envfs kms init ~/kms                   make one; prints the first access key
  envfs kms serve ~/kms                  run it
  envfs kms key create ~/kms --alias app
  envfs kms audit verify ~/kms`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.kmsInitCommand(), a.kmsServeCommand(), a.kmsKeyCommand(), a.kmsUserCommand(), a.kmsAuditCommand(), a.kmsBackupCommand(), a.kmsResealCommand())
	return c
}
