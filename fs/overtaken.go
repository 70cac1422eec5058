package fs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"envfs/blockcrypt"
	"envfs/remote"
)

// A writer is overtaken when another machine has begun a term that goes on from what was published so far. Then the root
// that it would replace is another's. It publishes and deletes nothing any more, its mount is read-only, and what it has
// not published stays here; Rescue brings that back.

// keeper is a shared store that keeps here what Rescue needs and the vault may not have any more.
type keeper interface {
	// Keep keeps these published segments, and no others.
	Keep(ctx context.Context, segments []string) error
	KeepRoot(data []byte) error

	// Unkeep lets go of segments that the root which was kept last has folded.
	Unkeep(segments []string)

	// KeptMuch reports whether what is kept takes so much space that a fold is to make it less.
	KeptMuch() bool
}

// keepHere keeps a root that was written.
func (f *FS) keepHere(root []byte) {
	if k, ok := f.store.(keeper); ok {
		err := k.KeepRoot(root)
		f.rootKept.Store(err == nil)
		if err != nil {
			f.logger.Warn("should another machine take the vault over, what was not published here may be hard to bring back", "cause", err)
		}
	}
}

// keepSegments keeps the segments that are not folded.
func (f *FS) keepSegments(ctx context.Context, live []blockcrypt.SegmentRef) {
	k, ok := f.store.(keeper)
	if !ok {
		return
	}
	var names []string
	for _, s := range live {
		names = append(names, s.Name)
	}
	if err := k.Keep(ctx, names); err != nil {
		f.logger.Warn("should another machine take the vault over, what was not published here may be hard to bring back", "cause", err)
	}
}

// overtaken says who has replaced the root that f knows, err being ErrChanged. rootMu is held.
func (f *FS) overtaken(ctx context.Context, err error) error {
	data, gerr := f.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
	var root *blockcrypt.Root
	if gerr == nil {
		root, gerr = f.vault.OpenRoot(f.keyring(), data)
	}
	if gerr != nil {
		return fmt.Errorf("%w: root was replaced by somebody else: %w", ErrOvertaken, err)
	}
	w := (&foundRoot{root: root}).writer()
	return fmt.Errorf("%w: %s@%s has gone on since %s: %w", ErrOvertaken, w.User, w.Host, goTime(w.Began).Format("2006-01-02 15:04"), err)
}

// overtakenBefore says that a mount before this one was overtaken and has left work here, if that is why opening fails.
func (f *FS) overtakenBefore(ctx context.Context, err error) error {
	if f.shared == nil || !errors.Is(err, ErrFork) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrSetBack) && !errors.Is(err, ErrIncomplete) {
		return err
	}
	objects, uerr := f.shared.Unpublished(ctx)
	if uerr != nil {
		return err
	}
	if t := f.endedHere(ctx, objects); t != nil {
		w := (&foundRoot{root: f.root}).writer()
		return fmt.Errorf("%w: %s@%s has gone on since %s, without what was not published here: %w", ErrOvertaken, w.User, w.Host,
			goTime(w.Began).Format("2006-01-02 15:04"), err)
	}
	return err
}

// endedHere returns the term that root knows as ended and of which there is a segment here from behind its end.
func (f *FS) endedHere(ctx context.Context, objects []remote.Info) *blockcrypt.Term {
	for _, o := range objects {
		n, err := blockcrypt.ParseName(o.Name)
		if err != nil || n.Kind != blockcrypt.KindSegment || o.Size < blockcrypt.SegmentPrefixSize {
			continue
		}
		t := findTerm(f.root, blockcrypt.Term{Number: n.Term, Tag: n.R.Tag()})
		if t == nil || !t.Closed {
			continue
		}
		p := make([]byte, blockcrypt.SegmentPrefixSize)
		if _, err := f.store.ReadAt(ctx, o.Name, p, 0); err != nil && !errors.Is(err, io.EOF) {
			continue
		}
		if prefix, err := f.vault.ParseSegmentPrefix(p); err == nil && prefix.First > t.LastBatch {
			return t
		}
	}
	return nil
}
