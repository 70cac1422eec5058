package fs

import (
	"context"
	"math"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// What is damaged must not keep all else from being folded. A file or directory that a fold cannot write, because an
// object that it stands on is damaged, is given up for this fold: the tree keeps what it says of that name, and what the
// journal says of it, and of all below it, is carried over the cut: committed again, before root names the fold.
//
// Carrying changes nothing: what the frozen layer says is said again where the active one does not say something newer,
// so that the journal means the same with the old root and with the new one.

// given is a name that a fold has given up.
type given struct {
	in   blockcrypt.ID // the directory that holds it
	item dirent
	why  error
}

// attempt runs step, which folds what a name stands for. If damage keeps it from that the name is given up.
func (fo *folding) attempt(in blockcrypt.ID, item dirent, step func() error) (up bool, err error) {
	m, names := fo.mark(), len(fo.given)
	if err = step(); !harms(err) {
		return false, err
	}
	fo.takeBack(m)
	fo.given = append(fo.given[:names], given{in, item, err}) // in place of what was given up below it
	return true, nil
}

// mark is how far a fold has come.
type mark struct{ born, dead, sparse, heads, made int }

func (fo *folding) mark() mark {
	return mark{len(fo.born), len(fo.dead), len(fo.sparse), len(fo.order), len(fo.made)}
}

// takeBack makes what the fold has done since m count for nothing.
func (fo *folding) takeBack(m mark) {
	fo.waste = append(fo.waste, fo.ownBorn(fo.born[m.born:])...)
	fo.waste = append(fo.waste, fo.made[m.made:]...)
	for _, id := range fo.order[m.heads:] {
		delete(fo.heads, id)
	}
	fo.born, fo.dead, fo.sparse = fo.born[:m.born], fo.dead[:m.dead], fo.sparse[:m.sparse]
	fo.order, fo.made = fo.order[:m.heads], fo.made[:m.made]
}

// ownBorn returns the names of those objects that the fold itself has written; extents that the journal names are not.
func (fo *folding) ownBorn(born []blockcrypt.Born) (names []string) {
	for _, b := range born {
		if n, err := blockcrypt.ParseName(b.Name); err == nil && n.R == fo.r {
			names = append(names, b.Name)
		}
	}
	return names
}

// carry commits again what was given up, and makes it durable.
func (fo *folding) carry(ctx context.Context) error {
	if len(fo.given) == 0 {
		return nil
	}
	f := fo.f
	ctx = context.WithoutCancel(ctx) // an append that was broken off would stop all writing
	for _, g := range fo.given {
		_ = f.report(g.why)
		if err := fo.carryName(ctx, g.in, g.item); err != nil {
			return err
		}
	}
	f.logger.Warn("what is damaged was not folded; the journal keeps what was done there", "names", len(fo.given))
	return f.syncNow(ctx)
}

// say commits what fn logs, within n bytes of the journal.
func (fo *folding) say(ctx context.Context, n int64, fn func() error) error {
	f := fo.f
	if err := f.claimHere(ctx, n); err != nil {
		return err
	}
	defer f.room.unclaim(n)
	return f.applyClaimed(ctx, func() error {
		bytes, inline := f.active.bytes, f.active.inlineBytes
		err := fn()
		f.active.carried += f.active.bytes - bytes
		f.active.carriedInline += f.active.inlineBytes - inline
		return err
	})
}

// claimHere is claim for a fold, which cannot wait for another.
func (f *FS) claimHere(ctx context.Context, n int64) error {
	for !f.room.try(n, roomSlack) {
		if err := f.extend(ctx, n+roomSlack+f.space.step.Load(), false); err != nil {
			return err
		}
	}
	return nil
}

// carryName carries a name and all below it.
func (fo *folding) carryName(ctx context.Context, in blockcrypt.ID, item dirent) error {
	f, e := fo.f, item.entry
	n := int64(opRoom)
	if e != nil {
		n += int64(xattrSize(e.Xattrs))
	}
	err := fo.say(ctx, n, func() error {
		if f.active.hides(in, item.h, item.name) || f.active.drops[in] != nil {
			return nil // it has changed since, or the directory is gone
		}
		d := fo.layer.dirs[in].dir
		if err := f.prepare(d); err != nil {
			return err
		}
		if e == nil {
			f.del(d, item.h, item.name)
		} else {
			f.set(d, item.h, e)
		}
		return nil
	})
	if err != nil || e == nil {
		return err
	}
	switch e.Type {
	case blockcrypt.TypeRegular:
		return fo.carryFile(ctx, e.ID)
	case blockcrypt.TypeDirectory:
		dd := fo.layer.dirs[e.ID]
		if dd == nil {
			return nil
		}
		dd.names.Ascend(func(below dirent) bool {
			err = fo.carryName(ctx, e.ID, below)
			return err == nil
		})
	}
	return err
}

// carryStep is how many extents or runs, or blocks of content, are carried in one batch.
const carryStep = 64

// carryFile carries what the frozen layer says of a file's content: also if the file has been moved or removed since, so
// that its extents are not forgotten.
func (fo *folding) carryFile(ctx context.Context, id blockcrypt.ID) error {
	f, fd := fo.f, fo.layer.files[id]
	if fd == nil {
		return nil
	}
	err := fo.say(ctx, opRoom, func() error {
		now := f.active.file(id)
		if fd.keys != nil && now.keys == nil {
			f.logFile(journal.Delta{Kind: journal.SetKeys, ID: id, Keys: fd.keys})
		}
		now.nextExt = max(now.nextExt, fd.nextExt)
		return nil
	})
	for i := 0; err == nil && i < len(fd.exts); i += carryStep {
		err = fo.say(ctx, opRoom, func() error {
			for k := i; k < min(i+carryStep, len(fd.exts)); k++ {
				f.logFile(journal.Delta{Kind: journal.SetExtent, ID: id, Extent: &fd.exts[k]})
			}
			return nil
		})
	}
	var step []blockcrypt.Run
	fd.runs.Runs(func(r blockcrypt.Run) bool {
		if r.Kind != blockcrypt.RunJournal {
			step = append(step, r)
		}
		for n := r.Start; r.Kind == blockcrypt.RunJournal && n < r.Start+r.Count && err == nil; n++ {
			step = append(step, blockcrypt.Run{Start: n, Count: 1, Kind: blockcrypt.RunJournal})
			if len(step) == carryStep {
				err = fo.carryRuns(ctx, id, step)
				step = step[:0]
			}
		}
		if err == nil && len(step) >= carryStep {
			err = fo.carryRuns(ctx, id, step)
			step = step[:0]
		}
		return err == nil
	})
	if err == nil && len(step) > 0 {
		err = fo.carryRuns(ctx, id, step)
	}
	return err
}

// lostExtent is the number of an extent that no file has: a block that is said to lie there cannot be read. It stands
// for a block in the journal that is damaged.
const lostExtent = math.MaxUint32

// carryRuns carries where blocks lie, where the active layer does not say something newer. Those in the journal come one
// by one, with what they hold.
func (fo *folding) carryRuns(ctx context.Context, id blockcrypt.ID, ranges []blockcrypt.Run) error {
	f, fd := fo.f, fo.layer.files[id]
	contents := make(map[uint64][]byte)
	for _, r := range ranges {
		if r.Kind != blockcrypt.RunJournal {
			continue
		}
		at := fd.inline[r.Start]
		data, err := f.contents.Content(ctx, at.segment, at.ref, nil)
		if err = damaged(err); err != nil && !harms(err) {
			return err
		}
		if err == nil {
			contents[r.Start] = data
		}
	}
	room := int64(len(contents)) * (blockcrypt.ExtentRecordSize + 32)
	return fo.say(ctx, opRoom+room, func() error {
		now, b := f.active.file(id), f.pending
		var runs []blockcrypt.Run
		add := func(r blockcrypt.Run, known bool) {
			if !known {
				return
			}
			if r.Kind == blockcrypt.RunJournal {
				if data, ok := contents[r.Start]; ok {
					r.Slot = uint32(len(b.batch.Contents))
					b.batch.Contents = append(b.batch.Contents, data)
					b.fix = append(b.fix, inlineFix{now, r.Start, int(r.Slot)})
					now.place(r.Start, fd.inline[r.Start]) // until then
				} else {
					r.Kind, r.Extent, r.Slot = blockcrypt.RunExtent, lostExtent, 0
				}
			}
			runs = append(runs, r)
		}
		for _, r := range ranges {
			now.runs.Lookup(r.Start, r.Count, func(rest blockcrypt.Run, newer bool) {
				if !newer {
					fd.runs.Lookup(rest.Start, rest.Count, add)
				}
			})
		}
		if len(runs) > 0 {
			f.logFile(journal.Delta{Kind: journal.SetRuns, ID: id, Runs: runs})
		}
		return nil
	})
}
