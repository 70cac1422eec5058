package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
	"envfs/kms"
)

func (a *app) kmsUserCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "user",
		Short: "Show and change the users of a KMS",
		Long: `Show and change the users of a KMS, who sign requests with their access keys. What a user may do, the policies of the keys say;
an administrator may besides make and list keys.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.kmsUserListCommand(), a.kmsUserAddCommand(), a.kmsUserRekeyCommand(), a.kmsUserRemoveCommand())
	return c
}

func (a *app) kmsUserListCommand() *cobra.Command {
	var (
		src    secret.Source
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "list DIR",
		Short: "List the users and the ids of their access keys",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atKMS(c.Context(), "user list", args[0], &src, func(d kmsDesk) error {
				var out kms.UserList
				if err := d.do(c.Context(), "ListUsers", struct{}{}, &out); err != nil {
					return err
				}
				return a.showKMSUsers(out.Users, asJSON)
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each user")
	return c
}

func (a *app) showKMSUsers(users []kms.User, asJSON bool) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, u := range users {
		if asJSON {
			if err := a.object(u); err != nil {
				return err
			}
			continue
		}
		rank := "-"
		if u.Admin {
			rank = "admin"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", u.Name, rank, moment(u.Created), strings.Join(u.AccessKeys, " "), u.ARN)
	}
	return w.Flush()
}

// kmsAccessVerb is a verb that gives a user an access key.
func (a *app) kmsAccessVerb(c *cobra.Command, verb, action string, in *kms.UserInput) *cobra.Command {
	var (
		src       secret.Source
		accessOut string
	)
	c.Args = cobra.ExactArgs(2)
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.atKMS(c.Context(), "user "+verb, args[0], &src, func(d kmsDesk) error {
			in.Name = args[1]
			var access kms.Access
			if err := d.do(c.Context(), action, in, &access); err != nil {
				return err
			}
			return a.giveAccess(&access, in.Name, accessOut)
		})
	}
	kmsFlags(c.Flags(), &src)
	accessOutFlag(c, &accessOut)
	return c
}

func (a *app) kmsUserAddCommand() *cobra.Command {
	var in kms.UserInput
	c := &cobra.Command{
		Use:   "add DIR NAME",
		Short: "Add a user, and print the access key, once",
		Example: `  envfs kms user add ~/kms backup --access-out backup.credentials
  envfs kms user add ~/kms carol --admin`,
	}
	c.Flags().BoolVar(&in.Admin, "admin", false, "an administrator")
	return a.kmsAccessVerb(c, "add", "CreateUser", &in)
}

func (a *app) kmsUserRekeyCommand() *cobra.Command {
	var in kms.UserInput
	c := &cobra.Command{
		Use:   "rekey DIR NAME",
		Short: "Give a user a new access key in the place of the old one",
	}
	c.Flags().BoolVar(&in.KeepOld, "keep-old", false, "the access key in use works on, until the next rekey")
	return a.kmsAccessVerb(c, "rekey", "RekeyUser", &in)
}

func (a *app) kmsUserRemoveCommand() *cobra.Command {
	var src secret.Source
	c := &cobra.Command{
		Use:   "remove DIR NAME",
		Short: "Remove a user. The name is not given again: policies may still hold it",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atKMS(c.Context(), "user remove", args[0], &src, func(d kmsDesk) error {
				return d.do(c.Context(), "RemoveUser", kms.UserInput{Name: args[1]}, new(struct{}))
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	return c
}
