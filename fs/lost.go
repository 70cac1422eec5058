package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"envfs/blockcrypt"
	"envfs/fs/journal"
	"envfs/remote"
)

// OpenLost opens, to read it, the vault as a machine had it that was overtaken, for Rescue: o.Store shows the root that it
// knew last, and the journal with what it has not published. A block that is gone ends no journal: who reads the file is told.
func OpenLost(ctx context.Context, o Options) (*FS, error) {
	o.RootName, o.StateDir, o.lost = blockcrypt.RootName, "", true
	return Open(ctx, o)
}

// knownUpTo returns the last batch of the term that wrote a root which counts in the vault as f has it.
func (f *FS) knownUpTo(root *blockcrypt.Root) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := (&foundRoot{root: root}).writer()
	if t := findTerm(f.root, w); t != nil && t.Closed {
		return t.LastBatch
	}
	return root.Cut
}

// findTouched notes what batches behind one speak of, and returns what it has found of the journal.
func (r *rescue) findTouched(ctx context.Context, after uint64) (*journal.Result, error) {
	f := r.lost
	root := f.root
	replay := journal.Replay{Store: f.store, Vault: f.vault, Keys: f.keyring(), From: journal.Pos{Number: root.Cut, Hash: root.CutHash},
		First: root.First, Last: root.Last, MinEpoch: root.Epoch, Ours: f.knownTerm,
		Ended: func(term uint64, tag blockcrypt.Tag) (uint64, bool) { return endOf(root, term, tag) }}
	res, err := replay.Run(ctx, func(at journal.Appended, b *journal.Batch) error {
		if at.Pos.Number > after {
			f.mu.Lock()
			defer f.mu.Unlock()
			for i := range b.Deltas {
				r.note(&b.Deltas[i])
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for what was not published: %w", err)
	}
	return res, nil
}

// note takes in what a batch says. FS.mu of lost is held.
func (r *rescue) note(d *journal.Delta) {
	f := r.lost
	switch d.Kind {
	case journal.SetEntry:
		id := d.Entry.ID
		r.touched[id] = true
		r.gone[id] = d.ID == f.nameless.id || d.Entry.Type == blockcrypt.TypeDirectory
	case journal.DelEntry:
		if in := f.dirs[d.ID]; in != nil && in != f.links && in != f.nameless {
			r.removed[spot{d.ID, in.hash(d.Name)}] = true
		}
	case journal.SetRuns, journal.SetExtent, journal.SetKeys:
		r.touched[d.ID] = true
	case journal.Drop:
		r.gone[d.ID] = true
	}
}

// stillRemoved counts the names that were removed and not made again.
func (r *rescue) stillRemoved() (n int) {
	f := r.lost
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range r.removed {
		if dd := f.active.dirs[s.in]; dd != nil {
			dd.names.AscendGreaterOrEqual(dirent{h: s.h}, func(item dirent) bool {
				if item.h == s.h && item.entry == nil {
					n++
				}
				return false
			})
		}
	}
	return n
}

// missingBehind says what of the journal behind a batch is not there or not on the chain; nil if all is.
func (f *FS) missingBehind(ctx context.Context, after uint64, found *journal.Result) (missing, err error) {
	if b := found.Break; b != nil && b.Damage {
		return fmt.Errorf("look for what was not published: %w: %s", ErrDamaged, journalEnd(found, nil)), nil
	}
	shared, ok := f.store.(remote.Shared)
	if !ok {
		return nil, nil
	}
	objects, err := shared.Unpublished(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for what was not published: %w", err)
	}
	here := make(map[string]bool)
	for _, o := range objects {
		here[o.Name] = o.Size > 0
	}
	var names []string
	for i := range found.Foreign {
		x := &found.Foreign[i]
		if !here[x.Name] || x.Authentic && (!x.Batches || x.First <= after) || f.pastEnd(x) {
			continue
		}
		names = append(names, x.Name)
	}
	if len(names) > 0 {
		return fmt.Errorf("look for what was not published: %w: the journal ends after batch %d, and these go on from what is not there: %s",
			ErrIncomplete, found.End.Number, strings.Join(names, ", ")), nil
	}
	return nil, nil
}

func (r *rescue) xattrs(ctx context.Context, ino *Inode) (map[string][]byte, error) {
	names, err := r.lost.ListXattr(ctx, ino)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	xs := make(map[string][]byte)
	for _, name := range names {
		if xs[name], err = r.lost.GetXattr(ctx, ino, name); err != nil && !errors.Is(err, ErrNoXattr) {
			return nil, err
		}
	}
	return xs, nil
}

// readerAt reads a file as io.ReaderAt says.
type readerAt struct {
	ctx context.Context
	h   *File
}

func (r *readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.h.ReadAt(r.ctx, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
