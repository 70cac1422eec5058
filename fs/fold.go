package fs

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"envfs/blockcrypt"
	"envfs/fs/journal"
	"envfs/remote"
)

// head is what a fold has written for a file or directory.
type head struct {
	ref     blockcrypt.Ref
	extents uint32
	names   uint32 // of a directory
}

// folding is one fold at work. It reads the frozen layer and the base, which do not change meanwhile, and writes new
// objects; nothing of it counts before root names it.
//
//	freeze -> sync journal and extents -> map pages, headers, indexes, fold record -> sync -> root -> its copy -> deletion
type folding struct {
	f      *FS
	ctx    context.Context // of write, for what looks up sizes
	number uint64
	r      blockcrypt.R
	epoch  uint32
	kek    []byte
	layer  *layer
	cut    journal.Pos
	old    []blockcrypt.SegmentRef // segments that the fold makes superfluous

	born    []blockcrypt.Born
	dead    []blockcrypt.Dead
	heads   map[blockcrypt.ID]head
	order   []blockcrypt.ID // of heads
	extents []*extent       // of this fold, open, to be synced
	made    []string        // names of all extents of this fold
	given   []given         // names that could not be folded
	waste   []string        // objects written for those, which nothing names
	runs    []blockcrypt.ObjRef
	records []string // fold records that were stored
	sparse  []foundSparse
	renew   *renewal          // nil: the fold renews nothing
	sending map[string]uint64 // extents of the new tree that were not published before, with their lengths
}

// Fold writes the headers and indexes that the journal implies, and drops the journal's batches. Folds run one at a
// time.
func (f *FS) Fold(ctx context.Context) error {
	if err := f.writable(); err != nil {
		return err
	}
	if err := f.flushAll(ctx); err != nil && !isFull(err) {
		return err
	}
	return f.fold(ctx, false)
}

func (f *FS) fold(ctx context.Context, closing bool) error {
	f.foldMu.Lock()
	defer f.foldMu.Unlock()
	return f.foldLocked(ctx, closing)
}

// foldIf folds if that is still wanted when no other fold is at work any more.
func (f *FS) foldIf(ctx context.Context, wanted func() bool) error {
	f.foldMu.Lock()
	defer f.foldMu.Unlock()
	if !wanted() {
		return nil
	}
	return f.foldLocked(ctx, false)
}

func (f *FS) foldLocked(ctx context.Context, closing bool) error {
	return f.foldAnd(ctx, closing, nil)
}

// foldAnd folds, and renews if renew is not nil. foldMu is held.
func (f *FS) foldAnd(ctx context.Context, closing bool, renew *renewal) error {
	if err := f.stoppedBy(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f.giveBack(ctx, false)
	whole := context.WithoutCancel(ctx) // of steps that are not to be broken off: memory would no longer fit the store
	fo, err := f.freeze(whole, renew)
	if err != nil {
		return err
	}
	if fo == nil {
		if closing {
			if err := f.rootMu.LockContext(ctx); err != nil {
				return err
			}
			defer f.rootMu.Unlock()
			return f.replaceRoot(ctx, func(r *blockcrypt.Root) { f.closeTerm(r) })
		}
		return nil
	}
	root, err := fo.write(ctx, closing)
	if err != nil {
		fo.abandon(ctx)
		return fmt.Errorf("fold %d: %w", fo.number, err)
	}
	if err := fo.name(ctx, root, closing); err != nil {
		if isFull(err) { // the old root is there
			fo.abandon(ctx)
		}
		return fmt.Errorf("fold %d: %w", fo.number, err)
	}
	fo.dropSegments(f.farContext(ctx))
	if err := f.store.Delete(f.farContext(ctx), fo.waste...); err != nil {
		f.logger.Warn("what was written for damaged files is left behind; the next mount removes it", "cause", err)
	}
	f.folds.Add(1)
	f.lastFold.Store(f.clock.Now().UnixNano())
	f.bury(fo)
	if err := f.reclaim(ctx); err != nil {
		f.logger.Warn("superseded objects were not deleted; the next fold tries again", "cause", err)
	}
	f.holdBack(ctx)
	return nil
}

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

// freeze makes the active layer the frozen one, and the journal begin a new segment. It returns nil if there is nothing
// to fold.
func (f *FS) freeze(ctx context.Context, renew *renewal) (*folding, error) {
	epoch := f.keyring().Newest()
	kek, err := f.keyring().KEK(epoch)
	if err != nil {
		return nil, err
	}
	r, err := blockcrypt.NewR(f.rand, f.term.Tag)
	if err != nil {
		return nil, fmt.Errorf("draw a fold's version: %w", err)
	}
	f.commitMu.Lock()
	defer f.commitMu.Unlock()
	f.mu.Lock()
	empty := f.active.empty()
	f.mu.Unlock()
	if empty && renew == nil {
		return nil, nil
	}
	if err := f.handOver(ctx, f.journal.Prepare); err != nil {
		return nil, fmt.Errorf("begin a journal segment: %w", err)
	}
	f.mu.Lock()
	taken := f.take()
	fo := &folding{f: f, number: f.nextFold, r: r, epoch: epoch, kek: kek, layer: f.active, renew: renew, heads: make(map[blockcrypt.ID]head)}
	f.setLayers(newLayer(), f.active)
	f.layerNo++
	f.nextFold++
	f.mu.Unlock()

	f.appendAll(ctx, taken)
	if err := f.stoppedBy(); err != nil {
		return nil, err
	}
	if err := f.journal.Rotate(ctx); err != nil {
		f.stop(fmt.Errorf("begin a journal segment: %w", err))
		return nil, err
	}
	fo.cut = f.journal.Position()
	f.committed.Store(fo.cut.Number)
	f.room.set(f.journal.Room())
	fo.old = f.liveSegments()
	return fo, nil
}

// write makes durable what the new tree will name, and the tree. It returns what root has to say then. What is carried over
// the cut because of damage is published before root names the fold, as it is behind the cut.
func (fo *folding) write(ctx context.Context, closing bool) (func(*blockcrypt.Root), error) {
	f := fo.f
	fo.ctx = ctx
	if err := f.syncNow(ctx); err != nil {
		return nil, err
	}
	if err := fo.buryDrops(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	dirs := f.root.Dirs
	f.mu.Unlock()
	for i := range dirs {
		e, known := fo.layer.get(f.super.id, uint64(i), dirs[i].Name)
		switch {
		case known && e != nil:
		case fo.renew.touches(dirs[i].ID):
			e = &dirs[i]
		default:
			continue // nothing below it has changed
		}
		next := *e
		fold := func() error { return fo.foldDir(ctx, &next) }
		var up bool
		var err error
		if known {
			up, err = fo.attempt(f.super.id, dirent{uint64(i), e.Name, e}, fold)
		} else {
			up, err = fo.spare(e.ID, fold)
		}
		if err != nil {
			return nil, err
		}
		if !up {
			dirs[i] = next
		}
	}
	record, err := f.writeRecord(ctx, fo)
	if err != nil {
		return nil, err
	}
	if err := fo.syncExtents(); err != nil {
		return nil, err
	}
	if err := fo.send(ctx, closing); err != nil {
		return nil, err
	}
	if err := f.store.Sync(ctx); err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	if err := fo.carry(ctx); err != nil {
		return nil, fmt.Errorf("carry over what is damaged: %w", err)
	}
	if len(fo.given) > 0 {
		if err := f.publishNow(ctx); err != nil {
			return nil, fmt.Errorf("carry over what is damaged: %w", err)
		}
	}
	return func(r *blockcrypt.Root) {
		r.LastFold, r.Fold = fo.number, record
		r.Cut, r.CutHash = fo.cut.Number, fo.cut.Hash
		r.Dirs = dirs
		r.Purged = f.grave.purgedTo()
		for _, b := range fo.born {
			r.Objects++
			r.Bytes += b.Length
		}
		for _, d := range fo.dead {
			if isFold(d.Name) {
				continue // a record's birth was not counted
			}
			r.Objects -= min(r.Objects, 1)
			r.Bytes -= min(r.Bytes, d.Length)
		}
	}, nil
}

// syncExtents makes the extents of the fold durable and closes them. A disk that fails to is not written to any more.
func (fo *folding) syncExtents() error {
	g := newSyncs()
	for _, x := range fo.extents {
		g.Go(func() error {
			if err := x.file.Sync(); err != nil {
				return fmt.Errorf("sync extent %s: %w", x.name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		fo.f.stop(err)
		return err
	}
	for _, x := range fo.extents {
		x.file.Close() // synced
	}
	fo.extents = fo.extents[:0]
	return nil
}

// setHead notes what was written for a file or directory.
func (fo *folding) setHead(id blockcrypt.ID, h head) {
	fo.heads[id] = h
	fo.order = append(fo.order, id)
}

// seal seals an object of the new tree, and returns its name.
func (fo *folding) seal(n blockcrypt.Name, body []byte) (blockcrypt.Name, []byte, error) {
	f := fo.f
	n.Seq, n.R = fo.number, fo.r
	if n.Kind != blockcrypt.KindIndex {
		if _, err := io.ReadFull(f.rand, n.Extra[:]); err != nil {
			return n, nil, fmt.Errorf("draw an object's name: %w", err)
		}
	}
	data, err := f.vault.SealObject(f.rand, fo.kek, fo.epoch, n.Kind, n.String(), body)
	if err != nil {
		return n, nil, fmt.Errorf("seal %s: %w", n.String(), err)
	}
	return n, data, nil
}

// put seals an object of the new tree and stores it.
func (fo *folding) put(ctx context.Context, n blockcrypt.Name, body []byte) (blockcrypt.PageRef, error) {
	n, data, err := fo.seal(n, body)
	if err != nil {
		return blockcrypt.PageRef{}, err
	}
	hash, err := fo.store(ctx, n.String(), data)
	return blockcrypt.PageRef{Ver: blockcrypt.Version{Birth: fo.number, R: fo.r}, Extra: n.Extra, Hash: hash}, err
}

// store stores an object whole, and notes its birth.
func (fo *folding) store(ctx context.Context, name string, data []byte) (blockcrypt.Hash, error) {
	hash, born, err := fo.putObject(ctx, name, data)
	if err == nil {
		fo.born = append(fo.born, born)
	}
	return hash, err
}

// putObject stores an object of the new tree, and returns its hash and what a fold record says of it. It may run beside
// others of its kind.
func (fo *folding) putObject(ctx context.Context, name string, data []byte) (blockcrypt.Hash, blockcrypt.Born, error) {
	put := fo.f.store.Put
	if fo.f.shared != nil {
		put = fo.f.shared.PutLater
	}
	if err := put(ctx, name, data); err != nil {
		return blockcrypt.Hash{}, blockcrypt.Born{}, fmt.Errorf("store %s: %w", name, err)
	}
	hash := blockcrypt.Sum(data)
	return hash, blockcrypt.Born{Name: name, Length: uint64(len(data)), CRC32C: crc32.Checksum(data, castagnoli), Hash: hash}, nil
}

// bury notes that an object is not part of the new tree.
func (fo *folding) bury(name string, birth, length uint64) {
	fo.dead = append(fo.dead, blockcrypt.Dead{Name: name, Birth: birth, Died: fo.number, Length: length})
}

func (fo *folding) buryHead(kind blockcrypt.Kind, id blockcrypt.ID, ref blockcrypt.Ref) {
	if !ref.IsZero() {
		n := blockcrypt.Name{Kind: kind, ID: id, Seq: ref.Version.Birth, R: ref.Version.R}
		fo.bury(n.String(), n.Seq, fo.f.sizeOf(fo.ctx, n.String()))
	}
}

func (fo *folding) buryPage(kind blockcrypt.Kind, id blockcrypt.ID, ref blockcrypt.PageRef) {
	if !ref.IsZero() {
		n := blockcrypt.Name{Kind: kind, ID: id, Seq: ref.Ver.Birth, R: ref.Ver.R, Extra: ref.Extra}
		fo.bury(n.String(), n.Seq, fo.f.sizeOf(fo.ctx, n.String()))
	}
}

// bearExtent notes the birth of an extent.
func (fo *folding) bearExtent(id blockcrypt.ID, x *blockcrypt.ExtentInfo) {
	fo.born = append(fo.born, blockcrypt.Born{Name: extentName(id, x), Length: x.Length, CRC32C: x.CRC32C})
}

func (fo *folding) buryExtent(id blockcrypt.ID, x *blockcrypt.ExtentInfo) {
	fo.bury(extentName(id, x), x.Ver.Birth, x.Length)
}

// sizeOf returns an object's length for the account of what can be reclaimed; 0 if it is not known.
func (f *FS) sizeOf(ctx context.Context, name string) uint64 {
	n, err := f.store.Size(ctx, name)
	if err != nil {
		return 0
	}
	return uint64(n)
}

// object returns a decoded object of the base.
func (fo *folding) object(ctx context.Context, m *miss) (any, error) { return fo.f.object(ctx, m) }

// object returns a decoded object, without keeping it.
func (f *FS) object(ctx context.Context, m *miss) (any, error) {
	if v := f.cache.get(m.hash); v != nil {
		return v, nil
	}
	v, _, err := f.fetch(ctx, m, m.name())
	if err != nil {
		if errors.Is(err, remote.ErrNotExist) {
			err = missingIsDamage(err)
		}
		return nil, fmt.Errorf("load %w", &objectError{m.name(), m.owner, err})
	}
	return v, nil
}

func (fo *folding) header(ctx context.Context, id blockcrypt.ID, ref blockcrypt.Ref) (*header, error) {
	if ref.IsZero() {
		return nil, nil
	}
	v, err := fo.object(ctx, headerMiss(id, ref))
	if err != nil {
		return nil, err
	}
	return cast[*header](v)
}

// buryDrops notes the death of all objects of what has lost its last name.
func (fo *folding) buryDrops(ctx context.Context) error {
	for id, e := range fo.layer.drops {
		if fd := fo.layer.files[id]; fd != nil {
			for i := range fd.exts {
				fo.bearExtent(id, &fd.exts[i]) // who counts what lives has to have counted it
				fo.buryExtent(id, &fd.exts[i])
			}
		}
		if e.Head.IsZero() {
			continue
		}
		kind, err := blockcrypt.KindHeader, error(nil)
		if e.Type == blockcrypt.TypeDirectory {
			kind = blockcrypt.KindIndex
			err = fo.buryDir(ctx, e)
		} else {
			err = fo.buryFile(ctx, e)
		}
		if harms(err) {
			// Who removes what is damaged wants to go on. What its header named cannot be told, and stays.
			fo.f.logger.Warn("of a damaged file that was removed, objects stay behind", "id", e.ID.String(), "cause", err)
			err = nil
		}
		if err != nil {
			return err
		}
		fo.buryHead(kind, e.ID, e.Head)
	}
	return nil
}

func (fo *folding) buryDir(ctx context.Context, e *blockcrypt.Entry) error {
	v, err := fo.object(ctx, indexMiss(e.ID, e.Head))
	if err != nil {
		return err
	}
	ix, err := cast[*blockcrypt.Index](v)
	if err != nil {
		return err
	}
	for _, s := range ix.Shards {
		fo.buryPage(blockcrypt.KindShard, e.ID, s.Ref)
	}
	return nil
}

func (fo *folding) buryFile(ctx context.Context, e *blockcrypt.Entry) error {
	if e.Extents > 0 {
		hd, err := fo.header(ctx, e.ID, e.Head)
		if err != nil {
			return err
		}
		return fo.buryContent(ctx, e.ID, hd)
	}
	return nil
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
