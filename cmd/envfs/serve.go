package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/mountpoint"
	"envfs/fs/fusefs"
)

const (
	// stopFold is how long a fold may take when the daemon is told by a signal to end. The journal holds the rest.
	stopFold = 20 * time.Second
	// stopUsers is how long programs may go on using a mount that a signal has detached.
	stopUsers = 5 * time.Second
)

// reporter is told how a mount begins.
type reporter struct {
	progress func(control.Progress)
	notice   func(string)
	ready    func()
}

// service is one mount that is being served.
type service struct {
	req    *mountRequest
	hello  control.Hello
	vault  *vault
	server *fusefs.Server
	log    *slog.Logger
	audience

	detached  atomic.Bool
	abandoned chan struct{} // closed when programs that use the mount are waited for no longer

	closing   context.Context // of the last fold
	breakFold context.CancelCauseFunc
	closed    chan struct{} // closed when all is on disk
	closeErr  error         // set before closed is closed
}

// serve mounts what req asks for and returns when it is unmounted and all is on disk. When ctx ends it unmounts.
func serve(ctx context.Context, req *mountRequest, log *slog.Logger, rep reporter) error {
	s := &service{req: req, log: log, abandoned: make(chan struct{}), closed: make(chan struct{})}
	s.closing, s.breakFold = context.WithCancelCause(context.Background())
	defer s.breakFold(nil)
	leave := s.join(rep.progress)
	opening := slog.New(&teller{Handler: log.Handler(), tell: rep.notice})
	var err error
	if s.vault, err = open(ctx, req.Store, &req.Secrets, req.openOptions, opening, s.progress); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := s.vault.renewSlot(ctx); err != nil {
		log.Warn("the slot that opened the vault still names an older root key", "cause", err)
	}
	if err := s.mount(); err != nil {
		return errors.Join(err, s.vault.Close(s.closing))
	}
	ctl, err := s.listen()
	if err != nil {
		return errors.Join(err, s.server.Unmount(), s.vault.Close(s.closing))
	}
	leave()
	if s.vault.bucket != nil {
		s.vault.bucket.far.Persist()
	}
	rep.ready()
	log.Info("mounted", "store", storeName(req.Store), "mountpoint", req.Mountpoint, "read_only", s.hello.ReadOnly)

	stop := context.AfterFunc(ctx, s.stop)
	defer stop()
	unmounted := make(chan struct{})
	go func() {
		defer close(unmounted)
		s.server.Wait()
	}()
	select {
	case <-unmounted:
	case <-s.abandoned:
	}
	// From here on it is the store's lock that tells whether this process is done.
	if err := ctl.Stop(); err != nil {
		log.Warn("remove socket", "error", err)
	}
	if err := s.vault.Close(s.closing); err != nil {
		s.closeErr = fmt.Errorf("close %s: %w", storeName(req.Store), err)
	}
	close(s.closed)
	if s.closeErr != nil {
		log.Error("cannot close the vault as it should be", "cause", s.closeErr)
	}
	return errors.Join(s.closeErr, ctl.Close())
}

// mount mounts the open vault.
func (s *service) mount() error {
	dead, err := mountpoint.Check(s.req.Mountpoint, storeName(s.req.Store))
	if dead {
		s.log.Warn("detaching a dead mount", "mountpoint", s.req.Mountpoint)
		if err = mountpoint.Detach(s.req.Mountpoint); err == nil {
			_, err = mountpoint.Check(s.req.Mountpoint, storeName(s.req.Store))
		}
	}
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	bare, err := mountpoint.OpenBare(s.req.Mountpoint)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	s.server, err = fusefs.Mount(s.vault.FS, s.req.Mountpoint, fusefs.Options{
		AllowOther: s.req.AllowOther, Writeback: s.req.Writeback, ReadOnly: s.vault.ReadOnly(), Follow: s.req.Follow, FsName: storeName(s.req.Store), Log: s.log,
	})
	if err != nil {
		bare.Restore()
		return err
	}
	if err := bare.Protect(); err != nil {
		s.log.Warn("the bare mount point is not protected", "error", err)
	}
	return nil
}

// listen opens the socket.
func (s *service) listen() (*control.Server, error) {
	id, err := identify(s.req.Places)
	if err != nil {
		return nil, err
	}
	dir, err := control.Dir()
	if err != nil {
		return nil, err
	}
	s.hello = control.Hello{
		Vault: s.vault.keys.File().VaultID().String(), Store: storeName(s.req.Store), Mountpoint: s.req.Mountpoint, Since: time.Now(),
		Host: id.host, User: id.user, PID: os.Getpid(), ReadOnly: s.vault.ReadOnly(), Root: s.req.Root,
	}
	if isBucket(s.req.Store) {
		d, err := dirsOf(s.req.Store, s.req.Places)
		if err != nil {
			return nil, err
		}
		s.hello.StateDir, s.hello.CacheDir = d.state, d.cache
	}
	return control.Listen(dir, s.hello, s.handle, wire, s.log)
}

// stop is what a signal does: unmount, whether or not programs use the mount.
func (s *service) stop() {
	s.log.Info("told to end")
	time.AfterFunc(stopFold, func() { s.breakFold(context.DeadlineExceeded) })
	err := s.server.Unmount()
	if err == nil {
		return
	}
	s.log.Warn("the mount is in use; detaching it", "error", err, "processes", mountpoint.Users(s.req.Mountpoint))
	if err := s.detach(); err != nil {
		s.log.Error("detach", "error", err)
	}
	// All that was written is committed, so nothing is lost when this process ends under those who still use it.
	time.AfterFunc(stopUsers, func() { close(s.abandoned) })
}

// detach takes the mount out of the tree of directories.
func (s *service) detach() error {
	s.detached.Store(true)
	return s.server.Detach()
}

// audience is who wants to see progress. Its methods may be called concurrently.
type audience struct {
	mu      sync.Mutex
	members map[int]func(control.Progress)
	next    int
	stage   string
	last    time.Time
}

// join adds a member, until the returned function is called.
func (a *audience) join(show func(control.Progress)) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.members == nil {
		a.members = make(map[int]func(control.Progress))
	}
	id := a.next
	a.next++
	a.members[id] = show
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.members, id)
	}
}

// progress tells the members, not more often than a person can see.
func (a *audience) progress(stage string, done, total int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if stage == a.stage && now.Sub(a.last) < progressPeriod && done != total {
		return
	}
	a.stage, a.last = stage, now
	for _, show := range a.members {
		show(control.Progress{Stage: stage, Done: done, Total: total})
	}
}
