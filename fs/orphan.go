package fs

import (
	"context"
	"fmt"
	"math"

	"envfs/blockcrypt"
	"envfs/remote"
)

// orphanSlack is how far beyond its term's last fold an object may have been born and still be known as one that a
// crash left behind: the fold that was at work, and the one after it, which extents begun meanwhile were born for.
const orphanSlack = 2

// goneOnFrom, in a term's last fold, says that its work was given up for an older moment: that of the root whose sequence
// is in the other bits. Nothing that the term has left since and nothing names may be deleted: it may be wanted again.
const goneOnFrom = 1 << 63

// giveUp notes that what a term has left since the root of a sequence is given up.
func giveUp(t *blockcrypt.Term, seq uint64) {
	if from, ok := givenUpFrom(t); ok {
		seq = min(seq, from)
	}
	t.LastFold = goneOnFrom | seq
}

// givenUpFrom returns the sequence of the root since which what a term has left is given up, if it is.
func givenUpFrom(t *blockcrypt.Term) (seq uint64, ok bool) {
	return t.LastFold &^ goneOnFrom, t.LastFold&goneOnFrom != 0
}

// keepsRoot reports whether a term's root of a sequence is none of the line that goes on: it is from after the term's last
// root there, or given up.
func keepsRoot(t *blockcrypt.Term, seq uint64) bool {
	from, givenUp := givenUpFrom(t)
	return seq > t.LastRootSeq || givenUp && seq > from
}

// Sweep deletes the orphans that earlier terms of this line left behind: objects that no tree, no journal batch and no
// fold record names. What is not certainly one of ours is counted, never deleted. It returns how many objects it
// deleted and how many nothing names and it left.
//
// A mount does so once by itself, after its first fold: what its own term makes is told by its tag.
func (f *FS) Sweep(ctx context.Context) (deleted, left int, err error) {
	f.foldMu.Lock()
	defer f.foldMu.Unlock()
	if err := f.checkOurs(ctx); err != nil {
		return 0, 0, err
	}
	needed, err := f.named(ctx)
	if err != nil {
		return 0, 0, err
	}
	f.mu.Lock()
	terms := make(map[blockcrypt.Tag]blockcrypt.Term)
	oldest := uint64(math.MaxUint64) // root of the terms that root remembers
	for _, t := range f.root.Terms {
		terms[t.Tag] = t
		oldest = min(oldest, t.LastRootSeq)
	}
	f.mu.Unlock()
	var orphans []string
	foreign := ""
	err = f.store.List(ctx, "", func(i remote.Info) error {
		n, err := blockcrypt.ParseName(i.Name)
		if err != nil || needed[i.Name] || n.R.Tag() == f.term.Tag {
			return nil
		}
		t, ok := terms[n.R.Tag()]
		switch n.Kind {
		case blockcrypt.KindOldRoot:
			if !ok && n.Seq >= oldest || ok && n.Seq > t.LastRootSeq {
				foreign = i.Name
			}
			return nil
		case blockcrypt.KindSegment:
			if !ok && i.Size > 0 {
				foreign = i.Name
			}
			return nil
		case blockcrypt.KindFold:
			if !ok {
				foreign = i.Name
			}
		case blockcrypt.KindRoot, blockcrypt.KindKeyCopy, blockcrypt.KindKeyFile:
			return nil // looked after by others
		}
		// Where root alone says what counts, nothing else can go on from a term that has ended, however many folds have failed.
		if _, givenUp := givenUpFrom(&t); ok && !givenUp && (n.Seq <= t.LastFold+orphanSlack || f.shared != nil && t.Closed) {
			orphans = append(orphans, i.Name)
		} else {
			left++
		}
		return nil
	})
	if err != nil {
		return 0, left, fmt.Errorf("list objects: %w", err)
	}
	if foreign != "" {
		// Somebody else goes on from one of our terms, it may be, and these are no orphans.
		f.logger.Warn("another machine's work is here: what a crash has left is not removed", "object", foreign)
		return 0, left + len(orphans), nil
	}
	if err := f.store.Delete(ctx, orphans...); err != nil {
		return 0, left, fmt.Errorf("delete orphans: %w", err)
	}
	return len(orphans), left, nil
}

// named returns the names of all objects that the fold records or the layers name: what is needed, and what is
// superseded and waits for the end of its grace. What has been deleted is none of them: a power loss may bring it back.
func (f *FS) named(ctx context.Context) (map[string]bool, error) {
	names := make(map[string]bool)
	f.mu.Lock()
	fold, purged := f.root.Fold, f.root.Purged
	f.mu.Unlock()
	refs := []blockcrypt.ObjRef{fold}
	var gone []string
	for i := 0; i < len(refs); i++ {
		rec, err := f.loadFold(ctx, refs[i])
		if err != nil {
			return nil, err
		}
		if i == 0 {
			refs = append(refs, rec.Runs...)
		}
		names[refs[i].Name] = true
		for _, b := range rec.Born {
			names[b.Name] = true
		}
		for _, d := range rec.Dead {
			if names[d.Name] = true; d.Died <= purged {
				gone = append(gone, d.Name)
			}
		}
	}
	for _, name := range gone {
		delete(names, name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.layers() {
		l.nameObjects(names)
	}
	return names, nil
}

// nameObjects adds the names of the objects that a layer's values refer to.
func (l *layer) nameObjects(names map[string]bool) {
	for id, fd := range l.files {
		for _, x := range fd.exts {
			names[extentName(id, &x)] = true
		}
	}
	head := func(e *blockcrypt.Entry) {
		if e == nil || e.Head.IsZero() {
			return
		}
		n := blockcrypt.Name{Kind: blockcrypt.KindHeader, ID: e.ID, Seq: e.Head.Version.Birth, R: e.Head.Version.R}
		if e.Type == blockcrypt.TypeDirectory {
			n.Kind = blockcrypt.KindIndex
		}
		names[n.String()] = true
	}
	for _, dd := range l.dirs {
		dd.names.Ascend(func(item dirent) bool {
			head(item.entry)
			return true
		})
	}
	for _, e := range l.drops {
		head(e)
	}
}
