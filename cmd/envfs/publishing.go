package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"envfs/cmd/envfs/internal/control"
	"envfs/remote/cache"
)

// defaultWait is how long a bucket that is away is waited for by who needs it.
const defaultWait = 5 * time.Minute

// bucketLimits are the flags that bound what lies on this machine of a bucket.
type bucketLimits struct {
	cache, state int // MiB
	wait         time.Duration
	durability   string
}

func bucketFlags(f *pflag.FlagSet) *bucketLimits {
	l := new(bucketLimits)
	f.IntVar(&l.cache, "cache-size", cache.DefaultSize>>20, "how much of what was fetched from a bucket is kept here, in `MIB`")
	f.IntVar(&l.state, "state-size", 0, "how much may wait here to be published to a bucket, in `MIB`; then writes wait (default 10240, or half of the free space)")
	f.DurationVar(&l.wait, "wait", defaultWait, "for `DURATION` reads and writes that need a bucket wait while it is away; then they fail")
	f.StringVar(&l.durability, "durability", durableLocal, "`WHERE` what was written is when fsync returns: local, on this machine's disk, or bucket")
	return l
}

// Values of --durability.
const (
	durableLocal  = "local"
	durableBucket = "bucket"
)

// set puts the limits into options.
func (l *bucketLimits) set(o *openOptions) error {
	switch {
	case l.cache < 0:
		return errors.New("--cache-size is less than nothing")
	case l.state != 0 && int64(l.state)<<20 < cache.MinStateSize:
		return fmt.Errorf("--state-size is at least %d MiB", cache.MinStateSize>>20)
	case l.wait < 0:
		return errors.New("--wait is less than nothing")
	case l.durability != durableLocal && l.durability != durableBucket:
		return fmt.Errorf("--durability is local or bucket, not %q", l.durability)
	}
	o.SyncPublishes = l.durability == durableBucket
	o.CacheSize, o.StateSize, o.Wait = int64(l.cache)<<20, int64(l.state)<<20, max(l.wait, time.Millisecond)
	return nil
}

// sync makes all durable that was written, and publishes it.
func (s *service) sync(ctx context.Context, reply func(control.Reply)) error {
	began := time.Now()
	var sent int64
	if s.vault.bucket != nil {
		sent = s.vault.bucket.Usage().Sent
	}
	defer s.watch(reply)()
	if err := s.vault.SyncHere(ctx); err != nil {
		return err
	}
	if err := s.vault.Publish(ctx); err != nil {
		return err
	}
	st := s.vault.Status()
	done := &control.Synced{RootSeq: st.RootSeq, RootTime: st.RootTime, Seconds: time.Since(began).Seconds()}
	if s.vault.bucket != nil {
		done.Bytes = s.vault.bucket.Usage().Sent - sent
	}
	reply(control.Reply{Synced: done})
	return nil
}

// watch tells by reply how publishing goes, and that the bucket is away if it is, until the returned function is called.
func (s *service) watch(reply func(control.Reply)) (stop func()) {
	if s.vault.bucket == nil || s.vault.ReadOnly() {
		return func() {}
	}
	b := s.vault.bucket
	sent := b.Usage().Sent
	total := s.vault.Status().UnpublishedBytes
	end := make(chan struct{})
	var over sync.WaitGroup
	over.Go(func() {
		tick := time.NewTicker(progressPeriod)
		defer tick.Stop()
		told, shown := false, int64(0)
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			if o, away := b.far.Outage(); away && !told {
				told = true
				reply(control.Reply{Notice: fmt.Sprintf("The bucket has been away since %s (%s) and is waited for. Ctrl-C ends the waiting; what was written stays in %s.",
					clockTime(o.Since, time.Now()), o.Cause, s.hello.StateDir)})
			}
			if done := b.Usage().Sent - sent; done > shown { // else a fold may have something to show
				shown = done
				reply(control.Reply{Progress: &control.Progress{Stage: "publishing", Done: done, Total: max(total, done)}})
			}
		}
	})
	return func() {
		close(end)
		over.Wait()
	}
}

// bucketStatus tells how the mount gets on with its bucket; nil if the store is a directory.
func (s *service) bucketStatus() *control.BucketStatus {
	b := s.vault.bucket
	if b == nil {
		return nil
	}
	n, u := b.far.Stats(), b.Usage()
	o, away := b.far.Outage()
	st := &control.BucketStatus{
		Away: away, Requests: n.Requests, Retries: n.Retries, Failed: n.Failed, LastFailure: n.LastFailure, RefusedDeletes: n.RefusedDeletes,
		Sent: n.Sent, Received: n.Received, State: u.State, StateBound: u.StateBound, Writers: u.Writers, WritersSince: u.WaitSince,
		Cache: u.Cache, CacheBound: u.CacheBound,
	}
	if away {
		st.AwaySince, st.Cause = o.Since, o.Cause
	}
	return st
}

// toPublish says what waits to be published, since when and where.
func toPublish(st *control.MountStatus) string {
	if st.Waiting == 0 {
		return "nothing"
	}
	text := fmt.Sprintf("%s in %s", size(st.Waiting), plural(int64(st.WaitingIn), "object", "objects"))
	if !st.WaitingSince.IsZero() {
		text += ", the oldest since " + clockTime(st.WaitingSince, time.Now())
	}
	return text + ", in " + printable(st.StateDir)
}

// describeBucket writes the rows of a status that are about a bucket.
func describeBucket(st *control.MountStatus, row func(name, format string, args ...any)) {
	b := st.Bucket
	if b.Away {
		row("bucket", "away since %s (%s)", clockTime(b.AwaySince, time.Now()), spelled(b.Cause))
	} else {
		row("bucket", "there")
	}
	if b.Writers > 0 {
		row("writes", "WAIT since %s: %s lie in the state directory, of %s (--state-size)", clockTime(b.WritersSince, time.Now()), size(b.State), size(b.StateBound))
	}
	requests := fmt.Sprintf("%d, %d of them again; %s sent, %s received", b.Requests, b.Retries, size(b.Sent), size(b.Received))
	row("requests", "%s", requests)
	if b.Failed > 0 {
		row("failed", "%d; the last: %s", b.Failed, spelled(b.LastFailure))
	}
	if b.RefusedDeletes > 0 {
		row("not deleted", "%s that the bucket keeps (a lock, a policy)", plural(b.RefusedDeletes, "object", "objects"))
	}
	row("cache", "%s of %s, in %s", size(b.Cache), size(b.CacheBound), printable(st.CacheDir))
	if st.ReadOnly {
		row("root", "%d of %s", st.RootSeq, moment(st.RootTime))
	} else {
		row("term", "%d; root %d of %s", st.Term, st.RootSeq, moment(st.RootTime))
	}
}
