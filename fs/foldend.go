package fs

import (
	"context"
	"fmt"
	"slices"

	"envfs/blockcrypt"
)

// How a fold ends: its tree becomes the base, or it is taken back.

// name makes root name the new tree, which becomes the base then. After an error that is no want of space writing has
// stopped.
func (fo *folding) name(ctx context.Context, root func(*blockcrypt.Root), closing bool) error {
	f := fo.f
	f.rootMu.Lock()
	defer f.rootMu.Unlock()
	commit, done := f.commitContext(ctx)
	defer done()
	err := f.replaceRoot(commit, func(r *blockcrypt.Root) {
		root(r)
		nameSegments(r, fo.visible())
		if closing {
			f.closeTerm(r)
		}
	})
	if isFull(err) {
		return err
	}
	if err != nil {
		// Whether the new root is there is not known: what is in memory would not fit one of the two.
		f.stop(err)
		return err
	}
	fo.install()
	fo.sent(context.WithoutCancel(ctx))
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	f.inherited = nil
	f.journal.Drop(fo.cut.Number)
	return nil
}

// closeTerm marks this mount's term as ended.
func (f *FS) closeTerm(r *blockcrypt.Root) {
	t := currentTerm(r, f.term)
	at := f.journal.Position()
	t.Closed, t.LastBatch, t.LastHash = true, at.Number, at.Hash
}

// install makes the new tree the base, and tells what is in memory what has replaced what it refers to.
func (fo *folding) install() {
	f := fo.f
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noteSparse(fo.sparse)
	f.unpin(fo.layer)
	f.setLayers(f.active, nil)
	patch := func(e *blockcrypt.Entry) *blockcrypt.Entry {
		h, ok := fo.heads[e.ID]
		if !ok || e.Type == blockcrypt.TypeLinkRef {
			return e
		}
		c := *e
		c.Head, c.Extents = h.ref, h.extents
		return &c
	}
	for _, dd := range f.active.dirs {
		var changed []dirent
		dd.names.Ascend(func(item dirent) bool {
			if item.entry != nil {
				if e := patch(item.entry); e != item.entry {
					changed = append(changed, dirent{item.h, item.name, e})
				}
			}
			return true
		})
		for _, item := range changed {
			dd.names.ReplaceOrInsert(item)
		}
	}
	for id, e := range f.active.drops {
		f.active.drops[id] = patch(e)
	}
	for id, h := range fo.heads {
		if d := f.dirs[id]; d != nil {
			d.index, d.stored = h.ref, h.names
		}
	}
}

// dropSegments forgets the segments that are folded. No tree needs them; they stay for one fold more, for whoever is
// copying the vault.
func (fo *folding) dropSegments(ctx context.Context) {
	f := fo.f
	if err := f.dropFolded(ctx); err != nil {
		f.logger.Warn("folded journal segments were not deleted; the next mount does", "cause", err)
	}
	if k, ok := f.store.(keeper); ok && f.rootKept.Load() {
		var names []string
		for _, s := range fo.old {
			names = append(names, s.Name)
		}
		k.Unkeep(names)
	}
	for _, s := range fo.old {
		if n, perr := blockcrypt.ParseName(s.Name); f.shared != nil && perr == nil && n.R.Tag() == f.term.Tag {
			f.folded = append(f.folded, s.Name) // was published at its very length
			continue
		}
		if err := f.keepTail(ctx, s); err != nil {
			f.logger.Warn("a journal segment stays, as what follows its end cannot be set aside", "segment", s.Name, "cause", err)
			continue
		}
		f.folded = append(f.folded, s.Name)
	}
}

// dropFolded deletes the segments that the last fold made superfluous. foldMu is held.
func (f *FS) dropFolded(ctx context.Context) error {
	err := f.store.Delete(ctx, f.folded...)
	f.folded = nil
	if err != nil {
		return fmt.Errorf("delete folded journal segments: %w", err)
	}
	return nil
}

// abandon takes back a fold that failed before root could name it: its layer becomes a part of the active one again,
// its objects go.
func (fo *folding) abandon(ctx context.Context) {
	f := fo.f
	far := f.farContext(ctx)
	ctx = context.WithoutCancel(ctx)
	for _, x := range fo.extents {
		x.file.Close()
	}
	names := slices.Concat(fo.records, fo.made, fo.waste, fo.ownBorn(fo.born))
	if err := f.takeBack(far, names); err != nil {
		f.logger.Warn("what a failed fold has written is left behind", "cause", err)
	}
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	for {
		f.mu.Lock()
		if len(f.pending.batch.Deltas) == 0 && len(f.queue) == 0 {
			break
		}
		taken := f.take()
		f.mu.Unlock()
		f.appendAll(ctx, taken)
	}
	defer f.mu.Unlock()
	for id, dd := range f.active.dirs {
		if fo.layer.dirs[id] != nil {
			f.unrefDir(dd.dir) // both layers had pinned it
		}
	}
	fo.layer.merge(f.active)
	f.setLayers(fo.layer, nil)
	if f.bornFor < f.nextFold {
		// Nothing was born for the next fold, which can have the number of this one: so the numbers do not run away from
		// what root knows, beyond which nothing is known as an orphan.
		f.nextFold = fo.number
	}
}
