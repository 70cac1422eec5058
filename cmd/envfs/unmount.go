package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/mountpoint"
)

func (a *app) unmountCommand() *cobra.Command {
	var all, lazy bool
	c := &cobra.Command{
		Use:     "unmount MOUNTPOINT...",
		Aliases: []string{"umount"},
		Short:   "Take a mount away",
		Long: `Take a mount away. The command returns when everything is on disk and the daemon has ended.

Ctrl-C breaks off the last tidying up: nothing is lost, but a copy of the store then needs its journal.

Of a vault in a bucket, what waits is published first. Ctrl-C ends the waiting for a bucket that is away: the rest stays
in the state directory, and the next mount publishes it.`,
		Example: `  envfs unmount ~/private
  envfs unmount --all`,
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageError(c, errors.New("name the mount points, or say --all"))
			}
			if all {
				return a.unmountAll(c.Context(), lazy)
			}
			return a.unmountEach(c.Context(), args, lazy)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "unmount every vault of this user")
	c.Flags().BoolVarP(&lazy, "lazy", "z", false, "take it away now; programs that use it keep the files they have open")
	return c
}

func (a *app) unmountEach(ctx context.Context, points []string, lazy bool) error {
	var errs []error
	for _, arg := range points {
		if err := a.unmountPoint(ctx, arg, lazy); err != nil {
			errs = append(errs, err)
		}
	}
	return partly(errs, len(points))
}

func (a *app) unmountAll(ctx context.Context, lazy bool) error {
	clients, err := control.All()
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range clients {
		defer c.Close()
		if err := a.ask(ctx, c, lazy); err != nil {
			errs = append(errs, err)
		}
	}
	return partly(errs, len(clients))
}

// partly joins the errors of n pieces of work; if some succeeded the whole is partly done.
func partly(errs []error, n int) error {
	if len(errs) > 0 && len(errs) < n {
		return fmt.Errorf("%w: %w", errPartly, errors.Join(errs...))
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

func (a *app) unmountPoint(ctx context.Context, arg string, lazy bool) error {
	point, err := mountpoint.Resolve(arg)
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	c, err := daemonAt(point)
	if err != nil {
		return err
	}
	if c != nil {
		defer c.Close()
	}
	m, mounted, err := mountpoint.At(point)
	if err != nil {
		return err
	}
	switch {
	case !mounted || m.Type != mountpoint.FSType:
		return fmt.Errorf("unmount %s: %w", arg, errNotMounted)
	case m.Dead():
		a.say("envfs: %s: its daemon is gone; what it had reported done is in the store", arg)
		return mountpoint.Detach(point)
	case c == nil:
		return a.unmountForeign(point, m, lazy)
	}
	return a.ask(ctx, c, lazy)
}

// ask asks a daemon to unmount and waits for its end.
func (a *app) ask(ctx context.Context, c *control.Client, lazy bool) error {
	b := a.newBar()
	defer b.clear()
	err := c.Do(ctx, control.Request{Verb: control.Unmount, Lazy: lazy}, func(r control.Reply) { b.tell(r) })
	if lazy || err != nil && exitCode(err) != codeInterrupted {
		return err // the daemon goes on
	}
	return errors.Join(err, c.WaitEnd(context.WithoutCancel(ctx)))
}

// unmountForeign takes away the mount of a daemon that this user cannot talk to, as far as the kernel lets it.
func (a *app) unmountForeign(point string, m mountpoint.Mount, lazy bool) error {
	unmount := mountpoint.Unmount
	if lazy {
		unmount = mountpoint.Detach
	}
	if err := unmount(point); errors.Is(err, mountpoint.ErrBusy) {
		return busy(point)
	} else if err != nil {
		return err
	}
	a.say("envfs: %s is unmounted; the daemon is another user's and may still be writing to %s", point, m.Source)
	return nil
}
