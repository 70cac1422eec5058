package fs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
	"envfs/remote"
)

// A fold that renews writes anew what older key epochs have sealed: indexes and shards of some directories, and headers of
// their files with the data keys wrapped anew. Content stays where it is and as it is: no extent is read, and the blocks of
// a small file are copied with its header.

// renewal says what a fold is to renew besides what the layer implies.
type renewal struct {
	since uint64                 // what was born before this fold is old
	dirs  map[blockcrypt.ID]bool // the directories, and all those above them
	files map[blockcrypt.ID]bool // files that are renewed although their headers are not old
	room  int                    // how many files may still be renewed
	done  int                    // files that were
	harm  *harmed
}

// harmed are the files and directories that are damaged, and so stay as they are. It may be used concurrently.
type harmed struct {
	mu  sync.Mutex
	ids map[blockcrypt.ID]bool
}

func (h *harmed) add(id blockcrypt.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ids == nil {
		h.ids = make(map[blockcrypt.ID]bool)
	}
	h.ids[id] = true
}

func (h *harmed) has(id blockcrypt.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids[id]
}

func (h *harmed) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ids)
}

// touches reports whether the fold renews a directory, or something below it.
func (n *renewal) touches(dir blockcrypt.ID) bool { return n != nil && n.dirs[dir] }

// old reports whether an object is to be written anew.
func (n *renewal) old(v blockcrypt.Version) bool { return n != nil && v.Birth < n.since }

// oldPages returns what tells which map pages are to be written anew; nil if none are.
func (n *renewal) oldPages() func(blockcrypt.PageRef) bool {
	if n == nil {
		return nil
	}
	return func(ref blockcrypt.PageRef) bool { return n.old(ref.Ver) }
}

// wants reports whether a regular file is renewed.
func (n *renewal) wants(e *blockcrypt.Entry) bool {
	return !e.Head.IsZero() && !n.harm.has(e.ID) && (n.old(e.Head.Version) || n.files[e.ID])
}

// isNew notes that a file is not to be renewed any more.
func (n *renewal) isNew(id blockcrypt.ID) {
	if n != nil {
		delete(n.files, id)
	}
}

// renewKnown renews the file e of which the layer says nothing but attributes, so that one that somebody changes all
// the time is not left out for ever.
func (fo *folding) renewKnown(ctx context.Context, e *blockcrypt.Entry) error {
	if fo.renew == nil || fo.renew.room <= 0 || !fo.renew.wants(e) {
		return nil
	}
	fo.renew.room--
	_, err := fo.renewFiles(ctx, []dirent{{entry: e}})
	return err
}

// renewBelow renews what lies in the directory dir of which the layer, as changed has it, says nothing. It returns changed
// with the new entries.
func (fo *folding) renewBelow(ctx context.Context, dir blockcrypt.ID, base *blockcrypt.Index, changed []dirent) ([]dirent, error) {
	known := make(map[string]bool, len(changed))
	for _, item := range changed {
		known[item.name] = true
	}
	hasher := blockcrypt.NewNameHasher(&base.Salt)
	var files []dirent
	visit := func(entries []blockcrypt.Entry) error {
		for i := range entries {
			e := entries[i]
			if known[e.Name] {
				continue
			}
			item := dirent{hasher.Hash(e.Name), e.Name, &e}
			switch {
			case e.Type == blockcrypt.TypeRegular && fo.renew.wants(&e):
				files = append(files, item)
			case e.Type == blockcrypt.TypeDirectory && fo.renew.touches(e.ID):
				up, err := fo.spare(e.ID, func() error { return fo.foldDir(ctx, &e) })
				if err != nil {
					return err
				}
				if !up {
					changed = append(changed, item)
				}
			}
		}
		return nil
	}
	if base.Leaf != nil {
		entries, err := shardEntries(base.Leaf)
		if err == nil {
			err = visit(entries)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, s := range base.Shards {
		entries, err := fo.shardNames(ctx, dir, s.Ref)
		if err == nil {
			err = visit(entries)
		}
		if err != nil {
			return nil, err
		}
	}
	files = files[:min(len(files), fo.renew.room)]
	fo.renew.room -= len(files)
	renewed, err := fo.renewFiles(ctx, files)
	if err != nil {
		return nil, err
	}
	changed = append(changed, renewed...)
	slices.SortFunc(changed, func(a, b dirent) int {
		switch {
		case direntLess(a, b):
			return -1
		case direntLess(b, a):
			return 1
		}
		return 0
	})
	return changed, nil
}

// spare runs step, which renews a directory of which the layer says nothing. If damage keeps it from that, nothing of
// it counts, and what is there stays.
func (fo *folding) spare(dir blockcrypt.ID, step func() error) (up bool, err error) {
	m, done := fo.mark(), fo.renew.done
	if err = step(); !harms(err) {
		return false, err
	}
	fo.takeBack(m)
	fo.renew.done = done
	fo.renew.harm.add(dir)
	return true, nil
}

// aboutToRenew is how many files are renewed at a time, so that the processors and the disk both have something to do.
func (fo *folding) aboutToRenew() int {
	if fo.f.shared != nil {
		return 16
	}
	return 4 * runtime.GOMAXPROCS(0)
}

// renewed is the new header of one file.
type renewed struct {
	born  []blockcrypt.Born
	ref   blockcrypt.Ref
	size  uint64               // of the old header
	pages []blockcrypt.PageRef // that died
}

// renewFiles writes the headers of files anew and returns their new entries. Files that are damaged are left out.
func (fo *folding) renewFiles(ctx context.Context, files []dirent) ([]dirent, error) {
	results := make([]renewed, len(files))
	damage := make([]bool, len(files))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fo.aboutToRenew())
	for i, item := range files {
		g.Go(func() (err error) {
			results[i], err = fo.renewFile(gctx, item.entry)
			if harms(err) {
				damage[i], err = true, nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		for i := range results { // for who clears up
			fo.born = append(fo.born, results[i].born...)
		}
		return nil, err
	}
	out := files[:0]
	for i, item := range files {
		e, r := item.entry, &results[i]
		fo.born = append(fo.born, r.born...)
		if damage[i] {
			fo.renew.harm.add(e.ID)
			fo.waste = append(fo.waste, fo.ownBorn(r.born)...)
			fo.born = fo.born[:len(fo.born)-len(r.born)]
			continue
		}
		fo.bury(headerMiss(e.ID, e.Head).name(), e.Head.Version.Birth, r.size)
		for _, ref := range r.pages {
			fo.buryPage(blockcrypt.KindMapPage, e.ID, ref)
		}
		e.Head = r.ref
		fo.renew.isNew(e.ID)
		fo.setHead(e.ID, head{ref: e.Head, extents: e.Extents})
		out = append(out, item)
	}
	fo.renew.done += len(out)
	return out, nil
}

// renewFile writes the header of one file anew, and the pages of its map. It may run beside others of its kind.
func (fo *folding) renewFile(ctx context.Context, e *blockcrypt.Entry) (r renewed, err error) {
	f := fo.f
	m := headerMiss(e.ID, e.Head)
	data, err := f.whole(ctx, m)
	if errors.Is(err, ErrDamaged) {
		return r, fmt.Errorf("renew %w", &objectError{m.name(), m.owner, err})
	}
	if err != nil {
		return r, fmt.Errorf("renew %s: %w", m.name(), err)
	}
	r.size = uint64(len(data))
	keys, old, inline, err := f.vault.OpenHeader(f.keyring(), m.name(), e.ID, data)
	if err != nil {
		return r, fmt.Errorf("renew %w", &objectError{m.name(), m.owner, damaged(err)})
	}
	if keys, err = fo.rewrap(e.ID, keys); err != nil {
		return r, err
	}
	next := *old
	put := func(ctx context.Context, name string, data []byte) (blockcrypt.Hash, error) {
		hash, b, err := fo.putObject(ctx, name, data)
		r.born = append(r.born, b)
		return hash, err
	}
	if r.pages, err = fo.copyPages(ctx, e.ID, &next, put); err != nil {
		return r, fmt.Errorf("renew %w", err)
	}
	n := blockcrypt.Name{Kind: blockcrypt.KindHeader, ID: e.ID, Seq: fo.number, R: fo.r}
	if data, err = f.vault.SealHeader(f.rand, fo.kek, fo.epoch, n.String(), e.ID, keys, &next, inline); err != nil {
		return r, fmt.Errorf("seal header of %s: %w", label(e.ID), err)
	}
	hash, err := put(ctx, n.String(), data)
	r.ref = blockcrypt.Ref{Version: blockcrypt.Version{Birth: fo.number, R: fo.r}, Hash: hash}
	return r, err
}

// copyPages writes the pages of a file's map anew, with put, and puts them in the place of the old ones in h. died are
// those.
func (fo *folding) copyPages(ctx context.Context, id blockcrypt.ID, h *blockcrypt.Header,
	put func(ctx context.Context, name string, data []byte) (blockcrypt.Hash, error)) (died []blockcrypt.PageRef, err error) {
	if h.MapTop.IsZero() && h.ExtTop.IsZero() {
		return nil, nil
	}
	died, err = filemap.Copy(ctx, h, func(ctx context.Context, key filemap.PageKey) ([]byte, error) {
		return fo.f.body(ctx, mapMiss(id, key))
	}, func(body []byte) (blockcrypt.PageRef, error) {
		n, data, err := fo.seal(blockcrypt.Name{Kind: blockcrypt.KindMapPage, ID: id}, body)
		if err != nil {
			return blockcrypt.PageRef{}, err
		}
		hash, err := put(ctx, n.String(), data)
		return blockcrypt.PageRef{Ver: blockcrypt.Version{Birth: fo.number, R: fo.r}, Extra: n.Extra, Hash: hash}, err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label(id), damaged(err))
	}
	return died, nil
}

// rewrap returns data keys wrapped under the fold's key epoch.
func (fo *folding) rewrap(id blockcrypt.ID, keys []blockcrypt.WrappedDEK) ([]blockcrypt.WrappedDEK, error) {
	var out []blockcrypt.WrappedDEK
	for i, k := range keys {
		if k.Epoch == fo.epoch {
			continue
		}
		w, err := fo.f.vault.RewrapDEK(fo.f.rand, fo.f.keyring(), fo.kek, fo.epoch, id, k)
		if err != nil {
			return nil, fmt.Errorf("rewrap data key of %s: %w", label(id), damaged(err))
		}
		if out == nil {
			out = slices.Clone(keys)
		}
		out[i] = w
	}
	if out == nil {
		out = keys
	}
	return out, nil
}

// whole returns an object of the base as it is stored, with its hash checked.
func (f *FS) whole(ctx context.Context, m *miss) ([]byte, error) {
	get := func() ([]byte, error) {
		data, err := f.store.Get(ctx, m.name(), maxObject)
		if err == nil && blockcrypt.Sum(data) != m.hash {
			err = fmt.Errorf("%w: content differs from what its reference says", ErrDamaged)
		}
		return data, err
	}
	data, err := get()
	if f.forget(m.name(), err) {
		data, err = get()
	}
	if errors.Is(err, remote.ErrNotExist) {
		err = missingIsDamage(err)
	}
	return data, err
}

// body returns what an object of the base holds.
func (f *FS) body(ctx context.Context, m *miss) ([]byte, error) {
	data, err := f.whole(ctx, m)
	if err != nil {
		return nil, err
	}
	body, _, err := f.vault.OpenObject(f.keyring(), m.kind, m.name(), data)
	return body, err
}
