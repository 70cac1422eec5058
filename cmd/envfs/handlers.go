package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/mountpoint"
	"envfs/fs"
)

// handle answers a request that came through the socket.
func (s *service) handle(ctx context.Context, r control.Request, reply func(control.Reply)) error {
	switch r.Verb {
	case control.Status:
		reply(control.Reply{Status: s.status()})
		return nil
	case control.Fold:
		return s.vault.Fold(ctx)
	case control.Sync:
		return s.sync(ctx, reply)
	case control.Unmount:
		if r.Lazy {
			return s.unmountLazily(ctx)
		}
		return s.unmount(ctx, reply)
	case control.Check:
		return check(ctx, s.vault.FS, reply)
	case control.Rewrap, control.Reencrypt, control.KeyUse:
		return workOnKeys(ctx, s.vault.FS, r, reply)
	case control.Keys:
		if r.Keys == nil {
			return fmt.Errorf("%w: no change of keys in the request", errUsage)
		}
		changed, err := changeKeys(ctx, s.vault, r.Keys, true)
		if err != nil {
			return err
		}
		s.log.Info("slots changed", "op", r.Keys.Op, "generation", changed.Generation)
		reply(control.Reply{Changed: changed})
		return nil
	}
	return fmt.Errorf("%w: the daemon knows no %q", errUsage, r.Verb)
}

// status describes the mount.
func (s *service) status() *control.MountStatus {
	st := s.vault.Status()
	return &control.MountStatus{
		Bucket: s.bucketStatus(), WaitingSince: st.UnpublishedSince, RootTime: st.RootTime,
		Hello: s.hello, Detached: s.detached.Load(),
		PendingBytes: st.PendingDeltas + st.PendingInline, DirtyBytes: st.DirtyBytes, LastFold: st.LastFold, Folds: st.Folds,
		Reclaimable: st.Reclaimable, OldestWhole: st.OldestWhole, Errors: st.Errors, LastError: st.LastError, Stopped: st.Stopped,
		Follows: st.Follows, Looked: st.Looked, Behind: st.Behind,
		Shared: st.Shared, Waiting: st.UnpublishedBytes, WaitingIn: st.UnpublishedObjects,
		Term: st.Term, RootSeq: st.RootSeq, Commit: st.Commit, Durable: st.Durable, Inodes: st.Inodes,
	}
}

// unmount unmounts and returns when all is on disk.
func (s *service) unmount(ctx context.Context, reply func(control.Reply)) error {
	leave := s.join(func(p control.Progress) { reply(control.Reply{Progress: &p}) })
	defer leave()
	defer s.watch(reply)()
	if s.detached.Load() {
		return hint(fmt.Errorf("unmount %s: %w", s.req.Mountpoint, mountpoint.ErrBusy), "it is detached and ends when the last file is closed")
	}
	if err := s.server.Unmount(); errors.Is(err, unix.EBUSY) {
		return busy(s.req.Mountpoint)
	} else if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), control.ErrBreak) {
			s.breakFold(control.ErrBreak)
		}
	})
	defer stop()
	<-s.closed
	if st := s.vault.Status(); s.closeErr == nil && st.Shared {
		if st.UnpublishedObjects == 0 {
			return nil
		}
		reply(control.Reply{Notice: fmt.Sprintf("Not all is published: %s wait in %s, and the next mount publishes them.", size(st.UnpublishedBytes), s.hello.StateDir)})
		return fmt.Errorf("unmount %s: %w", s.req.Mountpoint, control.ErrBreak)
	}
	if s.closeErr == nil && context.Cause(s.closing) != nil && s.vault.Status().PendingDeltas > 0 {
		reply(control.Reply{Notice: "The fold was broken off. Nothing is lost: the journal holds the rest, and a copy of the store needs it."})
		return fmt.Errorf("unmount %s: %w", s.req.Mountpoint, control.ErrBreak)
	}
	if s.closeErr == nil && !s.hello.ReadOnly && s.vault.Status().PendingDeltas > 0 {
		reply(control.Reply{Notice: "There is no space for the last fold. Nothing is lost: the journal holds the rest, and a copy of the store needs it."})
	}
	return s.closeErr
}

// unmountLazily takes the mount away from under those who use it, once all that was written so far is durable.
func (s *service) unmountLazily(ctx context.Context) error {
	if !s.vault.ReadOnly() {
		if err := s.vault.Sync(ctx); err != nil {
			return err
		}
	}
	return s.detach()
}

// busy names those who use a mount.
func busy(path string) error {
	var names []string
	for _, p := range mountpoint.Users(path) {
		names = append(names, p.String())
	}
	if len(names) == 0 {
		names = []string{"processes that this user may not see"}
	}
	return fmt.Errorf("unmount %s: %w by %s", path, mountpoint.ErrBusy, strings.Join(names, ", "))
}

// check reads and authenticates everything, and reports what it finds.
func check(ctx context.Context, f *fs.FS, reply func(control.Reply)) error {
	var pace audience
	pace.join(func(p control.Progress) { reply(control.Reply{Progress: &p}) })
	o := fs.CheckOptions{Progress: func(done, total int64) { pace.progress("checking", done, total) }}
	res, err := f.Check(ctx, o, func(x fs.Finding) { reply(control.Reply{Finding: &x}) })
	if err != nil {
		return err
	}
	reply(control.Reply{Checked: &res})
	return nil
}
