package fs

import (
	"context"
	"errors"
	"fmt"
	"math"

	"envfs/blockcrypt"
	"envfs/fs/journal"
	"envfs/remote"
)

// replayed is what replaying the journal has found.
type replayed struct {
	result *journal.Result
}

// loadFold reads a fold record.
func (f *FS) loadFold(ctx context.Context, ref blockcrypt.ObjRef) (*blockcrypt.FoldRecord, error) {
	data, err := f.store.Get(ctx, ref.Name, maxObject)
	if err != nil {
		return nil, fmt.Errorf("read fold record: %w: %w", ErrDamaged, err)
	}
	if blockcrypt.Sum(data) != ref.Hash {
		return nil, fmt.Errorf("read fold record %s: %w", ref.Name, ErrDamaged)
	}
	rec, err := f.vault.OpenFold(f.keyring(), ref.Name, data)
	if err != nil {
		return nil, fmt.Errorf("read fold record: %w", damaged(err))
	}
	return rec, nil
}

// replayer applies the journal's batches to the active layer.
type replayer struct {
	f *FS

	// heads are the references of what the last fold wrote: a batch that was committed while that fold was at work
	// still names what it replaced.
	heads map[blockcrypt.ID]blockcrypt.Ref

	made  []*dir // kept until release
	after uint64 // batches beyond this one must name authentic blocks only
	blind bool   // the last fold's record is damaged: a batch cannot be applied
	young bool   // a batch names what a fold has written that is younger than root
}

// replay brings the journal's batches since root's cut into the active layer.
//
// Before it stands on what was not known to be on the disk, it makes it real: a first pass learns what the batches
// name, which is then synced, dropped from memory and read again. So whatever is replayed is there after any later
// power loss, too. The journal ends at the first batch that is not whole or names a block that is not authentic.
//
// Of a shared store's segments those count that root names, and those that are here still (see segmentsHere).
//
// On a copy nothing that a batch calls durable need be there, so all that batches name is authenticated.
func (f *FS) replay(ctx context.Context, last *blockcrypt.FoldRecord, sv *survey) (*replayed, error) {
	f.contents = journal.NewReader(f.store, f.vault, keyRef{f})
	cut := journal.Pos{Number: f.root.Cut, Hash: f.root.CutHash}
	if f.opts.RootName != "" && sv.older {
		return &replayed{&journal.Result{End: cut}}, nil // an older moment: the tree alone
	}
	named, store := f.opts.Follow, f.store
	run := func(fn func(journal.Appended, *journal.Batch) error) (*journal.Result, error) {
		r := journal.Replay{Store: store, Vault: f.vault, Keys: f.keyring(),
			From: cut, First: f.root.First, Last: f.root.Last, MinEpoch: f.root.Epoch, Named: named,
			Ended: func(term uint64, tag blockcrypt.Tag) (uint64, bool) { return endOf(f.root, term, tag) }, Ours: f.knownTerm}
		return r.Run(ctx, fn)
	}
	if shared, ok := f.store.(remote.Shared); ok && !named && f.opts.RootName == "" {
		here, err := segmentsHere(ctx, shared)
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		named = true
		if len(here) > 0 {
			result, err := run(nil)
			if err != nil {
				return nil, fmt.Errorf("read journal: %w", err)
			}
			store, named = withSegments(f.store, here, result.Live), false
		}
	}
	rp := &replayer{f: f, heads: make(map[blockcrypt.ID]blockcrypt.Ref)}
	if f.follower != nil {
		f.follower.replayer, f.follower.end = rp, cut
	}
	if err := rp.learn(ctx, last); err != nil {
		return nil, err
	}
	if rp.blind && !sv.same {
		f.openedOlder(fmt.Errorf("%w: the record of the last fold is not whole: what the journal adds to it is missing", ErrIncomplete))
		return &replayed{&journal.Result{End: cut}}, nil
	}
	if f.local != nil {
		if err := f.makeReal(ctx, run); err != nil {
			return nil, err
		}
	}
	if sv.same && f.opts.Follow || f.opts.lost {
		rp.after = math.MaxUint64 // root names nothing that is not durable; of what is lost each file is judged by itself
	} else {
		result, err := run(nil) // to learn what is known durable
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		if sv.same {
			rp.after = result.Durable
		}
	}
	result, err := run(func(at journal.Appended, b *journal.Batch) error { return rp.apply(ctx, at, b) })
	rp.release()
	if err != nil {
		return nil, fmt.Errorf("replay journal: %w", err)
	}
	if rp.young && result.Break != nil {
		result.Break.Damage = true // there was a root that named it
	}
	if err := f.judgeJournal(result, sv); err != nil {
		return nil, err
	}
	if f.follower != nil {
		if f.root.Last.Length > 0 && result.End.Hash != f.root.Last.EndHash {
			return nil, fmt.Errorf("replay journal: %w: %w", ErrDamaged, errNotThere)
		}
		f.follower.end = result.End
	}
	return &replayed{result}, nil
}

// learn takes in what the last fold has written; nil if its record is damaged.
func (r *replayer) learn(ctx context.Context, last *blockcrypt.FoldRecord) error {
	if last == nil {
		r.blind = true
		return nil
	}
	parts, err := r.f.parts(ctx, last)
	if err != nil {
		if r.f.readOnly && errors.Is(err, ErrDamaged) {
			r.blind = true
			return nil
		}
		return err
	}
	for _, rec := range parts {
		for _, b := range rec.Born {
			n, err := blockcrypt.ParseName(b.Name)
			if err == nil && n.Seq == last.Seq && (n.Kind == blockcrypt.KindHeader || n.Kind == blockcrypt.KindIndex) {
				r.heads[n.ID] = blockcrypt.Ref{Version: blockcrypt.Version{Birth: n.Seq, R: n.R}, Hash: b.Hash}
			}
		}
	}
	return nil
}

// knownTerm reports whether a term is on the line of root.
func (f *FS) knownTerm(term uint64, tag blockcrypt.Tag) bool {
	return findTerm(f.root, blockcrypt.Term{Number: term, Tag: tag}) != nil
}

// endOf returns where a term that root knows as closed has ended: of its batches none beyond that count.
func endOf(root *blockcrypt.Root, term uint64, tag blockcrypt.Tag) (uint64, bool) {
	t := findTerm(root, blockcrypt.Term{Number: term, Tag: tag})
	if t == nil || !t.Closed {
		return 0, false
	}
	return t.LastBatch, true
}

// makeReal syncs the live segments and all extents that batches name beyond what is known durable, and drops them from
// memory.
func (f *FS) makeReal(ctx context.Context, run func(func(journal.Appended, *journal.Batch) error) (*journal.Result, error)) error {
	extents := make(map[string]uint64)
	result, err := run(func(at journal.Appended, b *journal.Batch) error {
		for _, d := range b.Deltas {
			if d.Kind == journal.SetExtent {
				extents[extentName(d.ID, d.Extent)] = at.Pos.Number
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	var names []string
	for _, s := range result.Live {
		names = append(names, s.Name)
	}
	for _, x := range result.Foreign {
		if _, err := blockcrypt.ParseName(x.Name); err == nil { // what else lies there is none of ours
			names = append(names, x.Name)
		}
	}
	if result.Break != nil {
		names = append(names, result.Break.Segment)
	}
	for name, n := range extents {
		if n > result.Durable {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := f.local.Settle(ctx, names); err != nil {
		return fmt.Errorf("sync what the journal names: %w", err)
	}
	return nil
}

// errUnknownDir means that a batch speaks of a directory that nothing before it placed.
var errUnknownDir = fmt.Errorf("%w: journal speaks of a directory that has no place", ErrDamaged)

func (r *replayer) apply(ctx context.Context, at journal.Appended, b *journal.Batch) error {
	if r.blind {
		return fmt.Errorf("%w: the fold record that the journal builds on", ErrDamaged)
	}
	if err := r.placed(b); err != nil {
		return err
	}
	if at.Pos.Number > r.after {
		if err := r.authenticate(ctx, b); err != nil {
			return err
		}
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.lay(at, b.Deltas)
}

// lay puts what a batch says into the active layer. FS.mu is held.
func (r *replayer) lay(at journal.Appended, deltas []journal.Delta) error {
	f := r.f
	for i := range deltas {
		d := &deltas[i]
		switch d.Kind {
		case journal.SetEntry, journal.DelEntry:
			in := f.dirs[d.ID]
			if in == nil {
				return errUnknownDir
			}
			if f.active.dirs[d.ID] == nil {
				f.pin(in)
			}
			if d.Kind == journal.DelEntry {
				f.active.put(in, in.hash(d.Name), d.Name, nil)
				continue
			}
			r.set(in, r.patch(d.Entry))
		case journal.Drop:
			f.active.drops[d.ID] = r.patch(d.Entry)
		case journal.SetKeys, journal.SetRuns, journal.SetExtent:
			f.active.apply(d, &at)
		}
	}
	return nil
}

// placed ends the journal where it speaks of what a fold has written that is younger than root: in an older moment of a
// copy, whether that is there is not known.
func (r *replayer) placed(b *journal.Batch) error {
	for i := range b.Deltas {
		e := b.Deltas[i].Entry
		if e != nil && e.Head.Version.Birth > r.f.root.LastFold {
			r.young = true
			return fmt.Errorf("%w: names what fold %d wrote, root is of fold %d", journal.ErrEnd, e.Head.Version.Birth, r.f.root.LastFold)
		}
	}
	return nil
}

func (r *replayer) set(in *dir, e *blockcrypt.Entry) {
	f := r.f
	h := in.hash(e.Name)
	f.active.put(in, h, e.Name, e)
	if e.Type != blockcrypt.TypeDirectory {
		return
	}
	if d := f.dirs[e.ID]; d != nil {
		if d.parent != in || d.name != e.Name {
			f.moveDir(d, in, h, e.Name)
		}
		return
	}
	r.made = append(r.made, f.refDir(in, h, e))
}

// release drops the directories that nothing refers to but replaying.
func (r *replayer) release() {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range r.made {
		f.unrefDir(d)
	}
	r.made = nil
}

// patch puts the last fold's reference into an entry that was committed before it was known.
func (r *replayer) patch(e *blockcrypt.Entry) *blockcrypt.Entry {
	ref, ok := r.heads[e.ID]
	if !ok || e.Type == blockcrypt.TypeLinkRef || e.Head.Version.Birth >= ref.Version.Birth {
		return e
	}
	c := *e
	c.Head = ref
	c.Extents = 1 // unknown: whoever drops the file reads its header
	return &c
}

// authenticate checks every block in extents that the batch names: what was not known to be on the disk may be torn.
func (r *replayer) authenticate(ctx context.Context, b *journal.Batch) error {
	f := r.f
	files := make(map[blockcrypt.ID]*blockcrypt.Entry)
	exts := make(map[blockcrypt.ID]map[uint32]blockcrypt.ExtentInfo)
	keys := make(map[blockcrypt.ID][]blockcrypt.WrappedDEK)
	for i := range b.Deltas {
		switch d := &b.Deltas[i]; d.Kind {
		case journal.SetEntry:
			files[d.Entry.ID] = r.patch(d.Entry)
		case journal.SetKeys:
			keys[d.ID] = d.Keys
		case journal.SetExtent:
			if exts[d.ID] == nil {
				exts[d.ID] = make(map[uint32]blockcrypt.ExtentInfo)
			}
			exts[d.ID][d.Extent.Number] = *d.Extent
		}
	}
	var buf []byte
	for i := range b.Deltas {
		d := &b.Deltas[i]
		if d.Kind != journal.SetRuns {
			continue
		}
		for _, run := range d.Runs {
			if run.Kind != blockcrypt.RunExtent {
				continue
			}
			pc := piece{run: run}
			err := f.view(ctx, func() (err error) {
				e := files[d.ID]
				if e == nil {
					e = &blockcrypt.Entry{ID: d.ID}
				}
				var ok bool
				if pc.ext, ok = exts[d.ID][run.Extent]; !ok {
					if pc.ext, err = f.extentInfo(e, f.layers(), run.Extent); err != nil {
						return err
					}
				}
				ks := keys[d.ID]
				if ks == nil {
					if ks, err = f.keysOf(e, f.layers()); err != nil {
						return err
					}
				}
				for k := range ks {
					if ks[k].Number == pc.ext.DEK {
						pc.key = &ks[k]
					}
				}
				return nil
			})
			if errors.Is(err, ErrDamaged) {
				// Not the block, but the tree below it is damaged: that ends no journal. Who reads the file is told.
				continue
			}
			if err == nil {
				if n := int(run.Count) * blockcrypt.BlockSize; len(buf) < n {
					buf = make([]byte, n)
				}
				err = f.readPiece(ctx, d.ID, &pc, buf[:int(run.Count)*blockcrypt.BlockSize])
			}
			if errors.Is(err, ErrDamaged) || errors.Is(err, remote.ErrNotExist) {
				return fmt.Errorf("%w: names a block that is not whole: %w", journal.ErrEnd, err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
