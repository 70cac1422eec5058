// Command envfs mounts encrypted directories.
//
// It has one file for each verb; what the verbs do is done by the packages fs, fs/fusefs, keystore and remote/dir.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"envfs/keystore/arena"
)

func main() { os.Exit(run()) }

// run runs the command that the process was started with and returns its exit code.
func run() int {
	if err := arena.NoDumps(); err != nil {
		fmt.Fprintln(os.Stderr, "envfs: forbid core dumps:", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	root := a.command()
	if isMountHelper(os.Args) {
		root = a.mountHelperCommand()
	}
	root.SetContext(ctx)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.out.err
	}
	if err == nil {
		return codeOK
	}
	if ctx.Err() != nil && exitCode(err) == codeError {
		err = fmt.Errorf("%w: %w", errInterrupted, err)
	}
	a.complain(err)
	return exitCode(err)
}

// command returns the tree of verbs.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "envfs",
		Short: "Mount encrypted directories",
		Long: `envfs keeps files encrypted in a directory, the store, and shows them in clear at a mount point.

The store can be copied, synced and backed up as it is. Every file has a key of its own; a passphrase, a key file or a
recovery code opens the vault, and each can be changed at any time.`,
		Example: `  envfs init ~/vault                 make a vault
  envfs mount ~/vault ~/private      open it
  envfs unmount ~/private            close it`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.talk)
	root.AddCommand(
		a.initCommand(), a.mountCommand(), a.unmountCommand(), a.statusCommand(), a.syncCommand(), a.copyCommand(), a.infoCommand(), a.checkCommand(),
		a.lsCommand(), a.catCommand(), a.keyCommand(), a.kmsCommand(), a.versionCommand(), a.daemonCommand(), a.kdfCommand(),
	)
	markUsage(root)
	return root
}

// markUsage makes what is wrong with the words of the command line exit with the code of wrong usage.
func markUsage(c *cobra.Command) {
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError(c, err) })
	check := c.Args
	if check == nil {
		check = cobra.ArbitraryArgs
	}
	c.Args = func(c *cobra.Command, args []string) error {
		err := check(c, args)
		if err == nil {
			err = c.ValidateFlagGroups()
		}
		if err != nil {
			return usageError(c, err)
		}
		return nil
	}
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
}

func usageError(c *cobra.Command, err error) error {
	return hint(fmt.Errorf("%w: %w", errUsage, err), "`%s --help` tells how", c.CommandPath())
}
