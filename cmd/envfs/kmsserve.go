package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"envfs/cmd/envfs/internal/secret"
	"envfs/kms/server"
)

func (a *app) kmsServeCommand() *cobra.Command {
	var (
		src secret.Source
		o   server.Options
	)
	c := &cobra.Command{
		Use:   "serve DIR",
		Short: "Run a KMS",
		Long: `Run the KMS in DIR until a signal ends it: over HTTPS at --listen, with a certificate of its own authority (DIR/ca.pem), and, if
asked for, over HTTP at a Unix socket. Requests are signed with AWS's Signature Version 4 in both cases. GET /health answers 200 while
calls can be answered.

A KMS that is sealed by a master key needs no flag where this machine is configured for it: a TPM, a PKCS#11 module, another KMS.
Under systemd the secret comes from the credential envfs-kms.passphrase or envfs-kms.keyfile, a token's PIN from envfs-kms.pin
(LoadCredential=).`,
		Example: `  envfs kms serve ~/kms
  envfs kms serve /var/lib/envfs-kms --listen 10.0.0.5:8550 --name kms.example.org --keyfile /etc/envfs-kms.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.kmsServe(c.Context(), args[0], &src, o); err != nil {
				return fmt.Errorf("kms serve: %w", err)
			}
			return nil
		},
	}
	kmsFlags(c.Flags(), &src)
	c.Flags().StringVar(&o.Listen, "listen", kmsListen, "`ADDRESS:PORT` for HTTPS; empty for none, port 0 for any")
	c.Flags().StringVar(&o.Socket, "socket", "", "`PATH` of a Unix socket for HTTP")
	c.Flags().StringSliceVar(&o.Names, "name", nil, "a further `NAME` or address under which clients reach it, for its certificate")
	c.Flags().IntVar(&o.Rate, "rate", 0, "how many calls each user may make in a second (default: no limit)")
	return c
}

func (a *app) kmsServe(ctx context.Context, dir string, src *secret.Source, o server.Options) error {
	if o.Rate < 0 {
		return fmt.Errorf("%w: --rate must not be negative", errUsage)
	}
	if o.Listen == "" && o.Socket == "" {
		return fmt.Errorf("%w: give --listen, or --socket", errUsage)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	unix.Umask(0o077)
	s, err := a.openKMS(ctx, dir, src)
	if err != nil {
		return err
	}
	o.Log = newLog(a.talk)
	err = server.New(dir, s, o).Serve(ctx, func(addresses []string) {
		a.say("Serving %s at %s.", shellQuote(dir), strings.Join(addresses, " and "))
		if err := notifyReady(); err != nil {
			o.Log.Warn("tell systemd that the service is ready", "error", err)
		}
	})
	return errors.Join(err, s.Close())
}
