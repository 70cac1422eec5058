package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
)

func (a *app) keyGenerateCommand() *cobra.Command {
	var (
		src secret.Source
		uri string
	)
	c := &cobra.Command{
		Use:   "generate [FILE]",
		Short: "Write a new random key to a new key file, or make one in a PKCS#11 token",
		Long: `Write a new random key to the new key file FILE, or make one in a PKCS#11 token, which it never leaves: 256 random bits for
HMAC-SHA-256. A key of that name that is there stays as it is, and the command fails.`,
		Example: `  envfs key generate ~/vault.key
  envfs key generate --pkcs11 'pkcs11:token=office;object=envfs' --pkcs11-module /usr/lib/softhsm/libsofthsm2.so`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if (uri == "") == (len(args) == 0) {
				return usageError(c, errors.New("give either FILE or --pkcs11 URI"))
			}
			if uri != "" {
				return a.generateInToken(c.Context(), &src, uri)
			}
			if err := secret.GenerateKeyFile(args[0]); err != nil {
				return fmt.Errorf("key generate: %w", err)
			}
			a.say("Keep a copy of %s in a safe place: whoever has it can open the vaults that it opens.", printable(args[0]))
			return nil
		},
	}
	c.Flags().StringVar(&uri, "pkcs11", "", "make the key that `URI` names in its token")
	src.Token.Flags(c.Flags())
	return c
}

func (a *app) generateInToken(ctx context.Context, src *secret.Source, uri string) error {
	m := a.tokens(src)
	if m == nil {
		return hint(errors.New("key generate: no PKCS#11 module is given"), "name the shared library that came with the token by --pkcs11-module")
	}
	if err := m.Generate(ctx, uri); err != nil {
		return fmt.Errorf("key generate: %w", err)
	}
	a.say("The key is made, and has no copy: what only it opens is lost with the token.")
	return nil
}
