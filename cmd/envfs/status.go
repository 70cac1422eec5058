package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/mountpoint"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "List the mounts and how they are",
		Long: `List every mount: its store, since when, what waits to be folded into the tree, what deleting superseded objects will
give back, the oldest moment that is still whole in the store, and errors. Of a vault in a bucket also what waits to be
published and since when, whether the bucket is there, requests, and what the cache holds.`,
		Example: `  envfs status
  envfs status --json | jq '.to_publish_bytes'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.status(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each mount")
	return c
}

func (a *app) status(ctx context.Context, asJSON bool) error {
	all, err := mounts(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 && !asJSON {
		a.say("Nothing is mounted.")
	}
	for i, st := range all {
		if asJSON {
			err = a.object(st)
		} else {
			if i > 0 {
				fmt.Fprintln(a.out)
			}
			_, err = fmt.Fprint(a.out, describe(&st))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mounts asks every daemon of this user, all at once, and adds the mounts whose daemon is gone, ordered by mount point.
func mounts(ctx context.Context) ([]control.MountStatus, error) {
	clients, err := control.All()
	if err != nil {
		return nil, err
	}
	all := make([]control.MountStatus, len(clients))
	var asked sync.WaitGroup
	for i, c := range clients {
		asked.Go(func() {
			defer c.Close()
			all[i] = control.MountStatus{Hello: c.Hello}
			err := c.Do(ctx, control.Request{Verb: control.Status}, func(r control.Reply) {
				if r.Status != nil {
					all[i] = *r.Status
				}
			})
			if err != nil {
				all[i].LastError = err.Error()
			}
		})
	}
	asked.Wait()
	table, err := mountpoint.Envfs()
	if err != nil {
		return nil, err
	}
	for _, m := range table {
		served := slices.ContainsFunc(all, func(st control.MountStatus) bool { return st.Mountpoint == m.Path })
		if !served && m.Dead() {
			all = append(all, control.MountStatus{Hello: control.Hello{Store: m.Source, Mountpoint: m.Path}, Dead: true})
		}
	}
	slices.SortFunc(all, func(a, b control.MountStatus) int { return strings.Compare(a.Mountpoint, b.Mountpoint) })
	return all, nil
}

// describe formats a status for people.
func describe(st *control.MountStatus) string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-15s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(&b, printable(st.Mountpoint))
	row("store", "%s", printable(st.Store))
	if st.Dead {
		row("state", "dead: its daemon is gone; `envfs mount` or `envfs unmount` clears it")
		return b.String()
	}
	mode := "read-write"
	switch {
	case st.Follows:
		mode = "follows"
	case st.ReadOnly:
		mode = "read-only"
	}
	if st.Detached {
		mode += ", detached: ends when the last file is closed"
	}
	row("mounted", "%s by %s, process %d, %s", moment(st.Since), st.User, st.PID, mode)
	if st.Follows {
		row("follows", "%s", followed(st))
	}
	if st.Root != "" {
		row("root", "%s", printable(st.Root))
	}
	if !st.ReadOnly {
		if st.Shared {
			row("to be published", "%s", toPublish(st))
		}
		row("to be folded", "%s", size(st.PendingBytes))
		row("last fold", "%s", moment(st.LastFold))
		row("reclaimable", "%s", size(st.Reclaimable))
	}
	if st.Bucket != nil {
		describeBucket(st, row)
	}
	row("oldest whole", "%s", moment(st.OldestWhole))
	switch {
	case st.Stopped != "":
		row("errors", "WRITING HAS STOPPED: %s", spelled(st.Stopped))
	case st.LastError != "":
		row("errors", "%d; the last: %s", st.Errors, spelled(st.LastError))
	default:
		row("errors", "none")
	}
	return b.String()
}

// followed says which moment of another's work is shown.
func followed(st *control.MountStatus) string {
	text := "what was published at " + moment(st.RootTime)
	if st.Behind != "" {
		return text + "; NOT what was published since: " + spelled(st.Behind)
	}
	return text + ", the newest at " + moment(st.Looked)
}
