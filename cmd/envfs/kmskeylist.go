package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
)

func (a *app) kmsKeyListCommand() *cobra.Command {
	var (
		src    secret.Source
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "list DIR",
		Short: "List the keys",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.atKMS(c.Context(), "key list", args[0], &src, func(d kmsDesk) error {
				keys, err := listKMSKeys(c.Context(), d)
				if err != nil {
					return err
				}
				return a.showKMSKeys(keys, asJSON)
			})
		},
	}
	kmsFlags(c.Flags(), &src)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each key")
	return c
}

func (a *app) showKMSKeys(keys []kmsKey, asJSON bool) error {
	if asJSON {
		for _, k := range keys {
			if err := a.object(k); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, k := range keys {
		state := k.KeyState
		if k.DeletionDate != 0 {
			state += " " + moment(unixTime(k.DeletionDate))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.KeyID, state, moment(unixTime(k.CreationDate)), strings.Join(k.Aliases, " "), printable(k.Description))
	}
	return w.Flush()
}

// listKMSKeys returns all keys with their aliases.
func listKMSKeys(ctx context.Context, d kmsDesk) ([]kmsKey, error) {
	aliases := map[string][]string{}
	var all []kmsKey
	for marker := ""; ; {
		var out struct {
			Aliases    []struct{ AliasName, TargetKeyId string }
			NextMarker string
		}
		if err := d.do(ctx, "ListAliases", map[string]any{"Limit": 100, "Marker": marker}, &out); err != nil {
			return nil, err
		}
		for _, e := range out.Aliases {
			aliases[e.TargetKeyId] = append(aliases[e.TargetKeyId], e.AliasName)
		}
		if marker = out.NextMarker; marker == "" {
			break
		}
	}
	for marker := ""; ; {
		var out struct {
			Keys       []keyName
			NextMarker string
		}
		if err := d.do(ctx, "ListKeys", map[string]any{"Limit": 1000, "Marker": marker}, &out); err != nil {
			return nil, err
		}
		for _, e := range out.Keys {
			k, err := describeKMSKey(ctx, d, e.KeyID)
			if err != nil {
				return nil, err
			}
			k.Aliases = aliases[k.KeyID]
			all = append(all, k)
		}
		if marker = out.NextMarker; marker == "" {
			return all, nil
		}
	}
}

// unixTime returns the time that AWS's protocol gives as a number of seconds.
func unixTime(s float64) time.Time { return time.UnixMilli(int64(s * 1000)) }
