package fs

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
)

// foldFile writes the header of the regular file e in directory parent, if its content or its large extended attributes
// have changed or it is to be renewed, and puts the reference into e. Attributes alone do not need it: the entry is
// authoritative.
func (fo *folding) foldFile(ctx context.Context, parent blockcrypt.ID, e *blockcrypt.Entry) error {
	fd := fo.layer.files[e.ID]
	apart := xattrSize(e.Xattrs) > blockcrypt.MaxInlineXattrs
	if fd == nil && !apart {
		return fo.renewKnown(ctx, e)
	}
	hd, err := fo.header(ctx, e.ID, e.Head)
	if err != nil {
		return err
	}
	ff := &fileFold{fo: fo, e: e, old: hd, base: new(blockcrypt.Header), fd: fd}
	if hd != nil {
		ff.base = hd.head
		ff.keys = hd.deks
	}
	if fd != nil && fd.keys != nil {
		ff.keys = fd.keys
	}
	if len(ff.keys) == 0 {
		return fmt.Errorf("%s: %w: no data key", label(e.ID), ErrDamaged)
	}
	next, err := ff.content(ctx)
	if err == nil {
		ff.keys, err = fo.rewrap(e.ID, ff.keys)
	}
	if err != nil {
		return fmt.Errorf("fold %s: %w", label(e.ID), err)
	}
	if e.Apart != 0 {
		next.Xattrs = ff.base.Xattrs
	}
	if apart {
		next.Xattrs, e.Apart, e.Xattrs = e.Xattrs, xattrFlags(e.Xattrs), nil
	}
	next.Parent = parent
	next.Entry = *e
	next.Entry.Head, next.Entry.Extents = blockcrypt.Ref{}, 0
	n := blockcrypt.Name{Kind: blockcrypt.KindHeader, ID: e.ID, Seq: fo.number, R: fo.r}
	data, err := fo.f.vault.SealHeader(fo.f.rand, fo.kek, fo.epoch, n.String(), e.ID, ff.keys, next, ff.inline)
	if err != nil {
		return fmt.Errorf("seal header of %s: %w", label(e.ID), err)
	}
	hash, err := fo.store(ctx, n.String(), data)
	if err != nil {
		return err
	}
	fo.buryHead(blockcrypt.KindHeader, e.ID, e.Head)
	e.Head = blockcrypt.Ref{Version: blockcrypt.Version{Birth: fo.number, R: fo.r}, Hash: hash}
	e.Extents = ff.extents
	fo.renew.isNew(e.ID)
	fo.setHead(e.ID, head{ref: e.Head, extents: e.Extents})
	if len(ff.sparse) > 0 {
		fo.sparse = append(fo.sparse, foundSparse{id: e.ID, parent: parent, entry: e, extents: ff.sparse})
	}
	return nil
}

// usedKeys returns the data keys without those that nothing of the file is sealed under any more: so that an old key
// epoch ends when the content of its time is gone. Where the extents are too many for the header they are looked
// through only when keys are many, too.
func (ff *fileFold) usedKeys(ctx context.Context, next *blockcrypt.Header) ([]blockcrypt.WrappedDEK, error) {
	keys, extents := ff.keys, next.Extents
	if len(keys) == 1 || !next.ExtTop.IsZero() && len(keys) <= blockcrypt.MaxDEKs/2 {
		return keys, nil
	}
	if !next.ExtTop.IsZero() {
		var err error
		if extents, _, err = filemap.Objects(ctx, next, ff.page); err != nil {
			return nil, fmt.Errorf("look through extents: %w", damaged(err))
		}
	}
	used := map[uint32]bool{keys[len(keys)-1].Number: true, next.InlineDEK: true}
	for i := range extents {
		used[extents[i].DEK] = true
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k blockcrypt.WrappedDEK) bool { return !used[k.Number] }), nil
}

// page loads a page of the file's map.
func (ff *fileFold) page(ctx context.Context, key filemap.PageKey) (*filemap.Page, error) {
	v, err := ff.fo.object(ctx, mapMiss(ff.e.ID, key))
	if err != nil {
		return nil, err
	}
	return cast[*filemap.Page](v)
}

// fileFold folds one file.
type fileFold struct {
	fo   *folding
	e    *blockcrypt.Entry
	old  *header // nil: the file has none yet
	base *blockcrypt.Header
	fd   *fileDelta // nil: the content has not changed
	keys []blockcrypt.WrappedDEK

	inline  []byte // sealed records for the new header
	extents uint32 // that the file has afterwards
	sparse  []sparseExtent
}

// content returns the new header but for attributes.
func (ff *fileFold) content(ctx context.Context) (*blockcrypt.Header, error) {
	if ff.fd == nil { // only attributes: everything stays where it is
		next := *ff.base
		if ff.old != nil {
			ff.inline = ff.old.inline
		}
		ff.extents = ff.e.Extents
		return &next, ff.renewPages(ctx, &next)
	}
	var delta *filemap.Delta
	var err error
	next := new(blockcrypt.Header)
	changed := ff.changed()
	if ff.e.Attr.Size <= ff.fo.f.limits.smallFile {
		delta, err = ff.toHeader(ctx, next)
	} else {
		var x *blockcrypt.ExtentInfo
		if delta, x, err = ff.toExtent(ctx); x != nil {
			changed = append(changed, *x)
		}
	}
	if err != nil {
		return nil, err
	}
	return next, ff.build(ctx, next, delta, changed)
}

// renewPages writes the pages of a map anew that stays as it is, if the fold renews.
func (ff *fileFold) renewPages(ctx context.Context, next *blockcrypt.Header) error {
	if ff.fo.renew == nil {
		return nil
	}
	died, err := ff.fo.copyPages(ctx, ff.e.ID, next, ff.fo.store)
	for _, ref := range died {
		ff.fo.buryPage(blockcrypt.KindMapPage, ff.e.ID, ref)
	}
	return err
}

func (ff *fileFold) changed() (xs []blockcrypt.ExtentInfo) {
	return slices.Clone(ff.fd.exts)
}

// build makes the new map and extent table.
func (ff *fileFold) build(ctx context.Context, next *blockcrypt.Header, delta *filemap.Delta, changed []blockcrypt.ExtentInfo) error {
	fo := ff.fo
	blocks := (ff.e.Attr.Size + blockcrypt.BlockSize - 1) / blockcrypt.BlockSize
	slices.SortFunc(changed, func(a, b blockcrypt.ExtentInfo) int { return cmp.Compare(a.Number, b.Number) })
	out, err := filemap.Build(ctx, filemap.FoldInput{
		Header: ff.base, Delta: delta, Changed: changed, Blocks: blocks, Old: fo.renew.oldPages(),
		NextExt: ff.number() + 1, // its own number is taken even if the fold made no extent
		Load:    ff.page,
		Emit: func(_ filemap.PageKind, body []byte) (blockcrypt.PageRef, error) {
			return fo.put(ctx, blockcrypt.Name{Kind: blockcrypt.KindMapPage, ID: ff.e.ID}, body)
		},
	})
	if err != nil {
		return fmt.Errorf("build map: %w", damaged(err))
	}
	out.Apply(next)
	if ff.keys, err = ff.usedKeys(ctx, next); err != nil {
		return err
	}
	ff.sparse = fo.f.limits.candidates(out)
	for _, ref := range out.Died {
		fo.buryPage(blockcrypt.KindMapPage, ff.e.ID, ref)
	}
	for i := range out.Dead {
		fo.buryExtent(ff.e.ID, &out.Dead[i])
	}
	for i := range changed {
		fo.bearExtent(ff.e.ID, &changed[i])
	}
	ff.extents = uint32(len(out.Extents))
	if !out.ExtTop.IsZero() {
		ff.extents = math.MaxUint32 // many; how many is for nobody to know
	}
	return nil
}

// toHeader seals all blocks of a small file for its header.
func (ff *fileFold) toHeader(ctx context.Context, next *blockcrypt.Header) (*filemap.Delta, error) {
	f := ff.fo.f
	delta := new(filemap.Delta)
	delta.Set(blockcrypt.Run{Start: 0, Count: filemap.MaxBlocks})
	size := ff.e.Attr.Size
	blocks := (size + blockcrypt.BlockSize - 1) / blockcrypt.BlockSize
	pieces, err := ff.locate(ctx, 0, blocks)
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(f.rand, next.InlineGen[:]); err != nil {
		return nil, fmt.Errorf("draw an inline generation: %w", err)
	}
	key := &ff.keys[len(ff.keys)-1]
	cipher, err := f.deriveCipher(ff.e.ID, next.InlineGen, key, f.vault.NewInlineCipher)
	if err != nil {
		return nil, err
	}
	next.InlineDEK = key.Number
	var nonce [nonceSize]byte
	buf := make([]byte, blockcrypt.BlockSize)
	for i := range pieces {
		pc := pieces[i]
		if pc.run.Kind == blockcrypt.RunHole {
			continue
		}
		for n := pc.run.Start; n < pc.run.Start+pc.run.Count; n++ {
			one := pc.block(n)
			if err := f.readPiece(ctx, ff.e.ID, &one, buf); err != nil {
				return nil, err
			}
			data := buf[:min(uint64(len(buf)), size-n*blockcrypt.BlockSize)]
			if _, err := io.ReadFull(f.rand, nonce[:]); err != nil {
				return nil, fmt.Errorf("draw a nonce: %w", err)
			}
			slot := uint32(len(next.InlineLen))
			ff.inline = cipher.Seal(ff.inline, nonce[:], data, slot, n)
			next.InlineLen = append(next.InlineLen, uint32(len(data)))
			delta.Set(blockcrypt.Run{Start: n, Count: 1, Kind: blockcrypt.RunHeader, Slot: slot})
		}
	}
	if len(next.InlineLen) == 0 {
		next.InlineGen, next.InlineDEK = [16]byte{}, 0
	}
	return delta, nil
}

// block returns the piece for one block of pc.
func (pc piece) block(n uint64) piece {
	if pc.run.Kind != blockcrypt.RunJournal {
		pc.run.Slot += uint32(n - pc.run.Start)
	}
	pc.run.Start, pc.run.Count = n, 1
	return pc
}

// toExtent moves the blocks that lie in the journal, and those of a file that was small, to one extent of this fold.
func (ff *fileFold) toExtent(ctx context.Context) (*filemap.Delta, *blockcrypt.ExtentInfo, error) {
	delta := ff.fd.runs.Clone()
	var moving []blockcrypt.Run
	delta.Runs(func(r blockcrypt.Run) bool {
		if r.Kind == blockcrypt.RunJournal {
			moving = append(moving, r)
		}
		return true
	})
	var pieces []piece
	for _, r := range moving {
		got, err := ff.locate(ctx, r.Start, r.Count)
		if err != nil {
			return nil, nil, err
		}
		pieces = append(pieces, got...)
	}
	if len(ff.base.InlineLen) > 0 {
		got, err := ff.locate(ctx, 0, maxInline)
		if err != nil {
			return nil, nil, err
		}
		for _, pc := range got {
			if pc.run.Kind == blockcrypt.RunHeader {
				pieces = append(pieces, pc)
			}
		}
	}
	if len(pieces) == 0 {
		return delta, nil, nil
	}
	x, err := ff.newExtent(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := ff.move(ctx, x, pieces, delta); err != nil {
		return nil, nil, err
	}
	return delta, &x.info, nil
}

// maxInline bounds how many blocks a header holds.
const maxInline = 64

// number is the number for an extent of this fold: FS.nextExtent leaves it out.
func (ff *fileFold) number() uint32 { return max(ff.fd.nextExt, ff.base.NextExt, 1) }

func (ff *fileFold) newExtent(ctx context.Context) (*extent, error) {
	if len(ff.fo.extents) >= maxGrowing {
		if err := ff.fo.syncExtents(); err != nil {
			return nil, err
		}
	}
	x, err := ff.fo.f.newExtent(ctx, ff.e.ID, &ff.keys[len(ff.keys)-1], ff.number(), math.MaxUint64, ff.fo.number)
	if err != nil {
		return nil, err
	}
	ff.fo.extents = append(ff.fo.extents, x)
	ff.fo.made = append(ff.fo.made, x.name)
	return x, nil
}

// move seals the blocks of pieces anew into x.
func (ff *fileFold) move(ctx context.Context, x *extent, pieces []piece, delta *filemap.Delta) error {
	f := ff.fo.f
	at := make([]uint64, 0, maxAppend)
	blocks := make([]*block, 0, maxAppend)
	write := func() error {
		slot := x.info.Slots
		if err := f.append(x, at, blocks); err != nil {
			return err
		}
		for i, n := range at {
			delta.Set(blockcrypt.Run{Start: n, Count: 1, Kind: blockcrypt.RunExtent, Extent: x.info.Number, Slot: slot + uint32(i)})
			f.blocks.Put(blocks[i])
		}
		at, blocks = at[:0], blocks[:0]
		return nil
	}
	for _, pc := range pieces {
		for n := pc.run.Start; n < pc.run.Start+pc.run.Count; n++ {
			b := f.blocks.Get().(*block)
			one := pc.block(n)
			if err := f.readPiece(ctx, ff.e.ID, &one, b[:]); err != nil {
				return err
			}
			at, blocks = append(at, n), append(blocks, b)
			if len(at) == maxAppend {
				if err := write(); err != nil {
					return err
				}
			}
		}
	}
	return write()
}

// locate says where blocks lie as the frozen layer and the base say.
func (ff *fileFold) locate(ctx context.Context, first, count uint64) (pieces []piece, err error) {
	f := ff.fo.f
	err = f.view(ctx, func() error {
		pieces, err = f.locate(pieces[:0], ff.e, []*layer{ff.fo.layer}, 0, first, count)
		return err
	})
	return pieces, err
}

// buryContent notes the death of a file's extents and map pages.
func (fo *folding) buryContent(ctx context.Context, id blockcrypt.ID, hd *header) error {
	extents, pages, err := filemap.Objects(ctx, hd.head, func(ctx context.Context, key filemap.PageKey) (*filemap.Page, error) {
		v, err := fo.object(ctx, mapMiss(id, key))
		if err != nil {
			return nil, err
		}
		return cast[*filemap.Page](v)
	})
	if err != nil {
		return fmt.Errorf("read map of %s: %w", label(id), damaged(err))
	}
	for _, ref := range pages {
		fo.buryPage(blockcrypt.KindMapPage, id, ref)
	}
	for i := range extents {
		fo.buryExtent(id, &extents[i])
	}
	return nil
}
