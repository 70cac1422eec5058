package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
	"envfs/kms/policy"
)

func (a *app) kmsKeyCreateCommand() *cobra.Command {
	var (
		src                            secret.Source
		alias, description, policyFile string
	)
	c := &cobra.Command{
		Use:   "create DIR",
		Short: "Make a key, and print its ARN",
		Example: `  envfs kms key create ~/kms --alias app
  envfs kms key create ~/kms --description 'backups of the office' --policy backup.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			in := map[string]string{"Description": description}
			if policyFile != "" {
				text, err := a.readPolicy(policyFile)
				if err != nil {
					return fmt.Errorf("kms key create: %w", err)
				}
				in["Policy"] = text
			}
			return a.atKMS(c.Context(), "key create", args[0], &src, func(d kmsDesk) error {
				var out struct{ KeyMetadata kmsKey }
				if err := d.do(c.Context(), "CreateKey", in, &out); err != nil {
					return err
				}
				fmt.Fprintln(a.out, out.KeyMetadata.Arn)
				if alias == "" {
					return nil
				}
				return d.do(c.Context(), "CreateAlias", map[string]string{"AliasName": aliasName(alias), "TargetKeyId": out.KeyMetadata.KeyID}, new(struct{}))
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	c.Flags().StringVar(&alias, "alias", "", "name it alias/`NAME`")
	c.Flags().StringVar(&description, "description", "", "a `TEXT` for people")
	c.Flags().StringVar(&policyFile, "policy", "", "its policy is in `FILE` (- for standard input); without, administrators may do everything with it")
	return c
}

// readPolicy reads the text of a policy.
func (a *app) readPolicy(name string) (string, error) {
	f := a.in
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return "", fmt.Errorf("read policy: %w", err)
		}
		defer f.Close()
	}
	text, err := io.ReadAll(io.LimitReader(f, policy.MaxSize+1))
	if err != nil {
		return "", fmt.Errorf("read policy: %w", err)
	}
	return string(text), nil
}

func (a *app) kmsKeyPolicyCommand() *cobra.Command {
	var (
		src  secret.Source
		file string
	)
	c := &cobra.Command{
		Use:   "policy DIR KEY",
		Short: "Show who may use a key, or say so",
		Long:  `Print the policy of a key, or with --put replace it. It is in AWS's JSON; docs/KMS.md tells which parts of it.`,
		Example: `  envfs kms key policy ~/kms alias/app > app.json
  envfs kms key policy ~/kms alias/app --put app.json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atKMS(c.Context(), "key policy", args[0], &src, func(d kmsDesk) error {
				key, err := resolveKMSKey(c.Context(), d, args[1])
				if err != nil {
					return err
				}
				if file == "" {
					var out struct{ Policy string }
					if err := d.do(c.Context(), "GetKeyPolicy", keyName{key}, &out); err != nil {
						return err
					}
					_, err = fmt.Fprintln(a.out, strings.TrimSuffix(out.Policy, "\n"))
					return err
				}
				text, err := a.readPolicy(file)
				if err != nil {
					return err
				}
				return d.do(c.Context(), "PutKeyPolicy", map[string]string{"KeyId": key, "Policy": text}, new(struct{}))
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	c.Flags().StringVar(&file, "put", "", "replace it by what is in `FILE` (- for standard input)")
	return c
}
