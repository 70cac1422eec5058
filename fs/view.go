package fs

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
	"envfs/remote"
)

// miss says that an answer needs an object of the base tree that is not in memory. Whoever gets one lets go of FS.mu,
// loads the object, and asks again: so no lock is held while the store is read.
type miss struct {
	kind  blockcrypt.Kind
	owner blockcrypt.ID
	ver   blockcrypt.Version
	extra blockcrypt.Extra
	hash  blockcrypt.Hash
	page  filemap.PageKey // KindMapPage: what the page must be
}

func (m *miss) Error() string { return "not in memory: " + m.name() }

func (m *miss) name() string {
	return blockcrypt.Name{Kind: m.kind, ID: m.owner, Seq: m.ver.Birth, R: m.ver.R, Extra: m.extra}.String()
}

func headerMiss(id blockcrypt.ID, ref blockcrypt.Ref) *miss {
	return &miss{kind: blockcrypt.KindHeader, owner: id, ver: ref.Version, hash: ref.Hash}
}

func indexMiss(id blockcrypt.ID, ref blockcrypt.Ref) *miss {
	return &miss{kind: blockcrypt.KindIndex, owner: id, ver: ref.Version, hash: ref.Hash}
}

func pageMiss(kind blockcrypt.Kind, id blockcrypt.ID, ref blockcrypt.PageRef) *miss {
	return &miss{kind: kind, owner: id, ver: ref.Ver, extra: ref.Extra, hash: ref.Hash}
}

func mapMiss(id blockcrypt.ID, key filemap.PageKey) *miss {
	m := pageMiss(blockcrypt.KindMapPage, id, key.Ref)
	m.page = key
	return m
}

// maxObject bounds the size of an index, shard, header or page that is read.
const maxObject = 64 << 20

// header is a file's header as it was read.
type header struct {
	deks   []blockcrypt.WrappedDEK
	head   *blockcrypt.Header
	inline []byte // sealed records of the inline blocks
	base   *filemap.Base
}

// load reads the object that m asks for into the cache.
func (f *FS) load(ctx context.Context, m *miss) error {
	if f.cache.get(m.hash) != nil {
		return nil
	}
	f.siblings(m)
	name := m.name()
	value, size, err := f.fetch(ctx, m, name)
	if err != nil {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if errors.Is(err, remote.ErrNotExist) {
			if f.caughtUp(ctx) {
				return nil // whoever asked for it asks again
			}
			err = missingIsDamage(err)
		}
		return fmt.Errorf("load %w", &objectError{name, m.owner, err})
	}
	// Under mu, so that nothing leaves the cache while somebody who holds it counts on what it has found there.
	f.mu.Lock()
	f.cache.put(m.hash, value, size)
	f.mu.Unlock()
	return nil
}

func (f *FS) fetch(ctx context.Context, m *miss, name string) (any, int64, error) {
	v, size, err := f.fetchOnce(ctx, m, name)
	if f.forget(name, err) {
		v, size, err = f.fetchOnce(ctx, m, name)
	}
	return v, size, err
}

// forgetter is a store that keeps copies of objects, which can be damaged while the objects are whole.
type forgetter interface {
	// Forget drops what is kept of an object, and reports whether that was anything.
	Forget(name string) bool
}

// forget drops what the store keeps of an object that is damaged as it was read with err, and reports whether it is worth
// reading again.
func (f *FS) forget(name string, err error) bool {
	if !errors.Is(err, ErrDamaged) {
		return false
	}
	s, ok := f.store.(forgetter)
	return ok && s.Forget(name)
}

func (f *FS) fetchOnce(ctx context.Context, m *miss, name string) (any, int64, error) {
	data, err := f.store.Get(ctx, name, maxObject)
	if err != nil {
		return nil, 0, err
	}
	if blockcrypt.Sum(data) != m.hash {
		return nil, 0, fmt.Errorf("%w: content differs from what its reference says", ErrDamaged)
	}
	value, err := f.decode(m, name, data)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return value, int64(len(data)) + 256, nil
}

func (f *FS) decode(m *miss, name string, data []byte) (any, error) {
	if m.kind == blockcrypt.KindHeader {
		deks, head, inline, err := f.vault.OpenHeader(f.keyring(), name, m.owner, data)
		if err != nil {
			return nil, err
		}
		base, err := filemap.NewBase(head)
		if err != nil {
			return nil, err
		}
		return &header{deks, head, inline, base}, nil
	}
	body, _, err := f.vault.OpenObject(f.keyring(), m.kind, name, data)
	if err != nil {
		return nil, err
	}
	switch m.kind {
	case blockcrypt.KindIndex:
		return blockcrypt.DecodeIndex(body)
	case blockcrypt.KindShard:
		return blockcrypt.DecodeShard(body)
	default:
		return filemap.DecodePage(m.page, body)
	}
}

// maxLoads bounds how often one operation may ask for another object: far above what the deepest tree needs.
const maxLoads = 100_000

// view runs fn under FS.mu, again and again until it finds all that it needs in memory. fn must change nothing before
// it can no longer miss.
//
// Between being asked for and being read an object can be superseded, and deleted if there is no grace for it: so one that is
// not there is asked for again. If it still is the one that is needed, it is missing.
func (f *FS) view(ctx context.Context, fn func() error) error {
	var gone *miss
	for range maxLoads {
		f.mu.Lock()
		err := fn()
		f.mu.Unlock()
		m, missing := err.(*miss)
		if !missing {
			return f.report(err)
		}
		err = f.load(ctx, m)
		if errors.Is(err, remote.ErrNotExist) && (gone == nil || gone.hash != m.hash) {
			gone = m
			continue
		}
		if err != nil {
			return f.report(err)
		}
	}
	return f.report(fmt.Errorf("look up: %w: references lead in circles", ErrDamaged))
}

// find returns the entry of a name, ErrNotExist, or a *miss. FS.mu is held.
func (f *FS) find(d *dir, name string) (*blockcrypt.Entry, uint64, error) {
	h := d.hash(name)
	e, err := f.findHash(d, h, name)
	return e, h, err
}

func (f *FS) findHash(d *dir, h uint64, name string) (*blockcrypt.Entry, error) {
	for _, l := range f.layers() {
		if e, known := l.get(d.id, h, name); known {
			if e == nil {
				return nil, ErrNotExist
			}
			return e, nil
		}
	}
	sh, err := f.baseShard(d, h)
	if err != nil {
		return nil, err
	}
	if sh == nil {
		if e := f.superEntry(d, h); e != nil {
			return e, nil
		}
		return nil, ErrNotExist
	}
	e, ok, err := sh.Find(h, name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !ok {
		return nil, ErrNotExist
	}
	return &e, nil
}

// findID returns the entry of the file with that id under hash h in d.
func (f *FS) findID(d *dir, h uint64, id blockcrypt.ID) (*blockcrypt.Entry, error) {
	for _, l := range f.layers() {
		if e := l.getID(d.id, h, id); e != nil {
			return e, nil
		}
	}
	sh, err := f.baseShard(d, h)
	if err != nil {
		return nil, err
	}
	if sh == nil {
		if e := f.superEntry(d, h); e != nil {
			return e, nil
		}
		return nil, ErrStale
	}
	for i := sh.Search(h); i < sh.Len() && sh.HashAt(i) == h; i++ {
		e, err := sh.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if e.ID == id && !f.hidden(d, h, e.Name) {
			return &e, nil
		}
	}
	return nil, ErrStale
}

func (f *FS) hidden(d *dir, h uint64, name string) bool {
	for _, l := range f.layers() {
		if l.hides(d.id, h, name) {
			return true
		}
	}
	return false
}

func (f *FS) superEntry(d *dir, h uint64) *blockcrypt.Entry {
	if d.parent != nil || h >= uint64(len(f.root.Dirs)) {
		return nil
	}
	e := f.root.Dirs[h]
	return &e
}

// layers returns the layers above the base, the newest first.
func (f *FS) layers() []*layer {
	if f.frozen == nil {
		return f.layerBuf[:1]
	}
	return f.layerBuf[:2]
}

// setLayers puts new layers in place.
func (f *FS) setLayers(active, frozen *layer) {
	f.active, f.frozen = active, frozen
	f.layerBuf = [2]*layer{active, frozen}
}

// baseShard returns the shard of d's base index that hash h belongs to; nil if there is none.
func (f *FS) baseShard(d *dir, h uint64) (*blockcrypt.Shard, error) {
	ix, err := f.baseIndex(d)
	if ix == nil || err != nil {
		return nil, err
	}
	if ix.Leaf != nil {
		return ix.Leaf, nil
	}
	i := shardOf(ix.Shards, h)
	if i < 0 {
		return nil, nil
	}
	return f.shard(d.id, ix.Shards[i].Ref)
}

// shardOf returns which of the shards, ordered by From, hash h belongs to; -1 if it lies before the first.
func shardOf(shards []blockcrypt.ShardRef, h uint64) int {
	lo, hi := 0, len(shards)
	for lo < hi {
		if mid := (lo + hi) / 2; shards[mid].From <= h {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

func (f *FS) baseIndex(d *dir) (*blockcrypt.Index, error) {
	if d.index.IsZero() {
		return nil, nil
	}
	if v := f.cache.get(d.index.Hash); v != nil {
		return cast[*blockcrypt.Index](v)
	}
	return nil, indexMiss(d.id, d.index)
}

func (f *FS) shard(d blockcrypt.ID, ref blockcrypt.PageRef) (*blockcrypt.Shard, error) {
	if v := f.cache.get(ref.Hash); v != nil {
		return cast[*blockcrypt.Shard](v)
	}
	return nil, pageMiss(blockcrypt.KindShard, d, ref)
}

// cast guards against one hash being referred to as two kinds of object.
func cast[T any](v any) (T, error) {
	t, ok := v.(T)
	if !ok {
		return t, fmt.Errorf("%w: an object of another kind", ErrDamaged)
	}
	return t, nil
}

// dirEntry returns a directory's own entry.
func (f *FS) dirEntry(d *dir) (*blockcrypt.Entry, error) {
	return f.findHash(d.parent, d.h, d.name)
}

// entry returns an inode's entry.
func (f *FS) entry(ino *Inode) (*blockcrypt.Entry, error) {
	if ino.ghost != nil {
		return ino.ghost, nil
	}
	if ino.self != nil {
		e, err := f.dirEntry(ino.self)
		if f.follower != nil && (err == ErrNotExist || err == nil && e.ID != ino.id) {
			return nil, ErrStale // others have moved it, or removed it
		}
		return e, err
	}
	return f.findID(ino.in, ino.h, ino.id)
}

// resolveLink follows one of several names of a file to where its entry lies.
func (f *FS) resolveLink(in *dir, h uint64, e *blockcrypt.Entry) (*blockcrypt.Entry, *dir, uint64, error) {
	if e.Type != blockcrypt.TypeLinkRef {
		return e, in, h, nil
	}
	te, th, err := f.find(f.links, e.ID.String())
	if errors.Is(err, ErrNotExist) {
		err = fmt.Errorf("%w: a name refers to a file that is not there", ErrDamaged)
	}
	return te, f.links, th, err
}
