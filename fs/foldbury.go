package fs

import (
	"context"

	"envfs/blockcrypt"
)

// What a fold makes superfluous.

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
	ix, err := fo.f.indexOf(ctx, e.ID, e.Head)
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
