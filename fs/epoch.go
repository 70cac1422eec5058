package fs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
	"envfs/remote"
)

// EpochUse is how many objects of the tree a key epoch has sealed.
type EpochUse struct {
	Epoch   uint32    `json:"epoch"`          // 0: some epoch that is too long ago to be told
	Began   time.Time `json:"began,omitzero"` // when the keys were rotated to it
	Headers int64     `json:"headers"`        // of files, with their wrapped data keys
	Indexes int64     `json:"indexes"`        // of directories, with their shards
	Pages   int64     `json:"pages"`          // of the maps of large files
}

// Total returns the number of objects.
func (u *EpochUse) Total() int64 { return u.Headers + u.Indexes + u.Pages }

// KeyUse tells which key epochs are in use.
type KeyUse struct {
	Newest  uint32     `json:"newest"`
	Tree    []EpochUse `json:"tree"`    // by epoch, rising; those that are in use, and the newest
	Journal []uint32   `json:"journal"` // epochs of live segments, rising, each once
	Skipped int64      `json:"skipped"` // objects that could not be read: what they name is not counted
	Slots   []SlotUse  `json:"slots"`   // that have opened the vault for writing, of late; each once
}

// SlotUse tells when a slot last opened the vault for writing, as far as root remembers.
type SlotUse struct {
	Slot string    `json:"slot"` // its id
	Time time.Time `json:"time"`
	Host string    `json:"host"`
	User string    `json:"user"`
}

// slotUses returns the last use of each slot that a root's terms tell of.
func slotUses(terms []blockcrypt.Term) []SlotUse {
	last := make(map[blockcrypt.ID]*blockcrypt.Term)
	for i := range terms {
		t := &terms[i]
		if old := last[t.Slot]; !t.Slot.IsZero() && (old == nil || old.Number < t.Number) {
			last[t.Slot] = t
		}
	}
	uses := make([]SlotUse, 0, len(last))
	for id, t := range last {
		uses = append(uses, SlotUse{Slot: id.String(), Time: goTime(t.Began), Host: t.Host, User: t.User})
	}
	slices.SortFunc(uses, func(a, b SlotUse) int { return b.Time.Compare(a.Time) })
	return uses
}

// Old returns how many objects of the tree older epochs than the newest have sealed.
func (u *KeyUse) Old() (n int64) {
	for i := range u.Tree {
		if u.Tree[i].Epoch != u.Newest {
			n += u.Tree[i].Total()
		}
	}
	return n
}

// KeyUse looks through the whole tree, as root names it now, and counts. It reads indexes, and headers of large files; it
// works beside all other use of the vault.
func (f *FS) KeyUse(ctx context.Context) (KeyUse, error) {
	work, done, err := f.works.begin(ctx)
	if err != nil {
		return KeyUse{}, fmt.Errorf("look through key epochs: %w", err)
	}
	defer done()
	use, err := f.keyUse(work)
	return use, because(work, err)
}

func (f *FS) keyUse(ctx context.Context) (KeyUse, error) {
	f.mu.Lock()
	starts, terms := f.root.Epochs, f.root.Terms
	f.mu.Unlock()
	c := &epochCounter{starts: starts, use: make(map[uint32]*EpochUse)}
	u := KeyUse{Newest: starts[len(starts)-1].Epoch, Slots: slotUses(terms)}
	c.of(blockcrypt.Version{Birth: math.MaxUint64})
	skipped, err := f.eachDir(ctx, func(d *dirVisit) error { return c.count(ctx, f, d) })
	if err != nil {
		return u, fmt.Errorf("look through key epochs: %w", err)
	}
	u.Skipped = skipped + c.skipped
	for _, use := range c.use {
		u.Tree = append(u.Tree, *use)
	}
	slices.SortFunc(u.Tree, func(a, b EpochUse) int { return int(int64(a.Epoch) - int64(b.Epoch)) })
	if u.Journal, err = f.journalEpochs(ctx); err != nil {
		return u, fmt.Errorf("look through key epochs: %w", err)
	}
	return u, nil
}

// journalEpochs returns the key epochs of the live segments; of a vault that is only looked at, of the first and the
// last that root names, between which no others lie.
func (f *FS) journalEpochs(ctx context.Context) (epochs []uint32, err error) {
	f.mu.Lock()
	live := []blockcrypt.SegmentRef{f.root.First, f.root.Last}
	f.mu.Unlock()
	if !f.ReadOnly() {
		f.commitMu.Lock()
		live = f.liveSegments()
		f.commitMu.Unlock()
	}
	for _, s := range live {
		if s.IsZero() {
			continue
		}
		head := make([]byte, blockcrypt.SegmentPrefixSize)
		if _, err := f.store.ReadAt(ctx, s.Name, head, 0); err != nil {
			if errors.Is(err, remote.ErrNotExist) {
				continue // folded meanwhile
			}
			return nil, err
		}
		p, err := f.vault.ParseSegmentPrefix(head)
		if err != nil {
			return nil, fmt.Errorf("segment %s: %w", s.Name, damaged(err))
		}
		epochs = append(epochs, p.Epoch)
	}
	slices.Sort(epochs)
	return slices.Compact(epochs), nil
}

// epochCounter counts objects by key epoch.
type epochCounter struct {
	starts  []blockcrypt.EpochStart
	use     map[uint32]*EpochUse
	skipped int64
}

// of returns the count of the epoch in which an object was born.
func (c *epochCounter) of(v blockcrypt.Version) *EpochUse {
	var at blockcrypt.EpochStart
	for _, s := range c.starts {
		if v.Birth >= s.Fold {
			at = s
		}
	}
	if c.use[at.Epoch] == nil {
		c.use[at.Epoch] = &EpochUse{Epoch: at.Epoch}
		if at.Epoch != 0 {
			c.use[at.Epoch].Began = goTime(at.Began)
		}
	}
	return c.use[at.Epoch]
}

func (c *epochCounter) count(ctx context.Context, f *FS, d *dirVisit) error {
	c.of(d.entry.Head.Version).Indexes++
	for _, s := range d.index.Shards {
		c.of(s.Ref.Ver).Indexes++
	}
	for i := range d.entries {
		e := &d.entries[i]
		if e.Type != blockcrypt.TypeRegular || e.Head.IsZero() {
			continue
		}
		c.of(e.Head.Version).Headers++
		err := f.eachPage(ctx, e, func(ref blockcrypt.PageRef) { c.of(ref.Ver).Pages++ })
		if harms(err) {
			c.skipped++
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eachPage calls fn with the pages of a file's map, if it has any.
func (f *FS) eachPage(ctx context.Context, e *blockcrypt.Entry, fn func(blockcrypt.PageRef)) error {
	if e.Attr.Size <= filemap.Unpaged*blockcrypt.BlockSize && e.Extents != math.MaxUint32 {
		return nil
	}
	hd, err := f.loadedHeader(ctx, e)
	if err != nil {
		return err
	}
	return filemap.Pages(ctx, hd.head, func(ctx context.Context, key filemap.PageKey) (*filemap.Page, error) {
		v, err := f.object(ctx, mapMiss(e.ID, key))
		if err != nil {
			return nil, err
		}
		return cast[*filemap.Page](v)
	}, fn)
}

func (f *FS) loadedHeader(ctx context.Context, e *blockcrypt.Entry) (*header, error) {
	v, err := f.object(ctx, headerMiss(e.ID, e.Head))
	if err != nil {
		return nil, err
	}
	return cast[*header](v)
}

// dirVisit is a directory on the way through the tree.
type dirVisit struct {
	entry   *blockcrypt.Entry
	above   []blockcrypt.ID // the directories in which it lies, from the top
	index   *blockcrypt.Index
	entries []blockcrypt.Entry
}

// eachDir calls fn for every directory of the tree as root names it now, the hidden ones too, each before those in it. What
// is damaged, or gone since a fold has superseded it, is left out and counted.
func (f *FS) eachDir(ctx context.Context, fn func(*dirVisit) error) (skipped int64, err error) {
	f.mu.Lock()
	dirs := f.root.Dirs
	f.mu.Unlock()
	w := &treeWalk{f: f, fn: fn}
	for i := range dirs {
		if err := w.dir(ctx, &dirs[i], nil); err != nil {
			return w.skipped, err
		}
	}
	return w.skipped, nil
}

type treeWalk struct {
	f       *FS
	fn      func(*dirVisit) error
	skipped int64
}

func (w *treeWalk) dir(ctx context.Context, e *blockcrypt.Entry, above []blockcrypt.ID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Head.IsZero() {
		return nil
	}
	d, err := w.read(ctx, e)
	if harms(err) {
		w.skipped++
		return nil
	}
	if err != nil {
		return err
	}
	d.above = above
	if err := w.fn(d); err != nil {
		return err
	}
	here := append(slices.Clip(above), e.ID)
	for i := range d.entries {
		if c := &d.entries[i]; c.Type == blockcrypt.TypeDirectory {
			if err := w.dir(ctx, c, here); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads the names of a directory.
func (w *treeWalk) read(ctx context.Context, e *blockcrypt.Entry) (*dirVisit, error) {
	ix, err := w.f.indexOf(ctx, e.ID, e.Head)
	if err != nil {
		return nil, err
	}
	d := &dirVisit{entry: e, index: ix}
	if d.index.Leaf != nil {
		d.entries, err = shardEntries(d.index.Leaf)
		return d, err
	}
	parts := make([][]blockcrypt.Entry, 0, len(d.index.Shards))
	for _, s := range d.index.Shards {
		entries, err := w.f.shardNames(ctx, e.ID, s.Ref)
		if err != nil {
			return nil, err
		}
		parts = append(parts, entries)
	}
	d.entries = slices.Concat(parts...)
	return d, nil
}
