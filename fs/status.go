package fs

import "time"

// Status tells how a mount is doing.
type Status struct {
	Store         string    `json:"store"`
	Since         time.Time `json:"since"`
	ReadOnly      bool      `json:"read_only"`
	Older         string    `json:"older,omitempty"` // why what was opened is not the newest moment, and which one it is
	PendingDeltas int64     `json:"pending_bytes"`   // of deltas that wait to be folded
	PendingInline int64     `json:"pending_inline_bytes"`
	DirtyBytes    int64     `json:"dirty_bytes"`
	LastFold      time.Time `json:"last_fold"` // of this mount; zero if none
	Folds         uint64    `json:"folds"`
	Reclaimable   int64     `json:"reclaimable_bytes"`
	OldestWhole   time.Time `json:"oldest_whole"` // oldest moment that can still be looked at
	Errors        uint64    `json:"errors"`
	LastError     string    `json:"last_error,omitempty"`
	Stopped       string    `json:"stopped,omitempty"` // why nothing can be written any more
	Term          uint64    `json:"term"`
	Commit        uint64    `json:"commit"`
	Durable       uint64    `json:"durable"`
	Inodes        int       `json:"inodes"`
	RootSeq       uint64    `json:"root"`
	Shared        bool      `json:"shared"` // others see what is published only
	// What is here only, of a store that is shared.
	UnpublishedBytes   int64 `json:"unpublished_bytes"`
	UnpublishedObjects int   `json:"unpublished_objects"`

	UnpublishedSince time.Time `json:"unpublished_since,omitzero"` // when the oldest of it was committed
	RootTime         time.Time `json:"root_time"`

	Follows bool      `json:"follows"`          // shows what another publishes
	Looked  time.Time `json:"looked"`           // when what is shown was last known to be the newest
	Behind  string    `json:"behind,omitempty"` // why it may not be

	Orphans int64 `json:"orphans"` // objects that nothing names and that are not certainly ours to delete
}

// Status returns how the mount is doing.
func (f *FS) Status() Status {
	f.mu.Lock()
	s := Status{
		Store: f.store.Location(), Since: f.since, ReadOnly: f.readOnly, Older: f.older,
		PendingDeltas: f.active.bytes, PendingInline: f.active.inlineBytes,
		Term: f.term.Number, Inodes: len(f.inodes), RootSeq: f.root.Seq,
	}
	if f.frozen != nil {
		s.PendingDeltas += f.frozen.bytes
		s.PendingInline += f.frozen.inlineBytes
	}
	s.OldestWhole = goTime(f.root.Time)
	if fl := f.follower; fl != nil {
		s.Follows, s.Looked = true, fl.looked
		if fl.failed != nil {
			s.Behind = fl.failed.Error()
		}
	}
	s.RootTime = s.OldestWhole
	f.mu.Unlock()
	if p, ok := f.grave.oldest(); ok {
		s.OldestWhole = p.at
	}
	s.DirtyBytes = f.dirtyBytes.Load()
	s.Folds = f.folds.Load()
	if n := f.lastFold.Load(); n != 0 {
		s.LastFold = time.Unix(0, n)
	}
	s.Reclaimable = f.grave.bytes()
	s.Errors = f.errs.Load()
	if p := f.lastFault.Load(); p != nil {
		s.LastError = *p
	}
	if err := f.stoppedBy(); err != nil {
		s.Stopped = err.Error()
	}
	s.Orphans = f.foreign.Load()
	s.Shared = f.shared != nil
	s.UnpublishedBytes, s.UnpublishedObjects = f.unpublishedSize()
	s.UnpublishedSince = f.waitSince()
	s.Commit, s.Durable = f.committed.Load(), f.durable.Load()
	return s
}
