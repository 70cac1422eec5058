package fs

import (
	"context"
	"fmt"
	"math/bits"

	"envfs/blockcrypt"
)

// Fold records are sorted runs that are merged in tiers: eight neighbours of a tier become one of the next, so that
// there are few of them and each line is rewritten seldom. A run is one or more records with the same number: parts, in
// the order of the names in them.
const mergeFactor = 8

// foldRun is what a root's line of fold records has of some neighbouring folds.
type foldRun struct {
	seq   uint64 // number of the last of them
	folds uint64 // how many numbers it covers
	parts []blockcrypt.ObjRef
}

// tier is the power of eight that the number of folds has reached.
func (r *foldRun) tier() int { return (bits.Len64(r.folds) - 1) / 3 }

// groupRuns returns the runs that records belong to, the newest first.
func groupRuns(refs []blockcrypt.ObjRef) (runs []foldRun, err error) {
	for _, ref := range refs {
		n, err := blockcrypt.ParseName(ref.Name)
		if err != nil {
			return nil, fmt.Errorf("fold record: %w", err)
		}
		last := len(runs) - 1
		if last >= 0 && runs[last].seq == n.Seq {
			runs[last].parts = append(runs[last].parts, ref)
			continue
		}
		if last >= 0 {
			runs[last].folds = max(1, runs[last].seq-min(runs[last].seq, n.Seq))
		}
		runs = append(runs, foldRun{seq: n.Seq, folds: n.Seq + 1, parts: []blockcrypt.ObjRef{ref}})
	}
	return runs, nil
}

// dueMerge returns which neighbours are to be merged: the oldest eight of the lowest tier that has so many. One that a
// higher tier is newer than counts as of that one.
func dueMerge(runs []foldRun) (from, to int, ok bool) {
	highest, count := 0, 0
	for i := range runs {
		if t := runs[i].tier(); t > highest {
			if count >= mergeFactor {
				return i - mergeFactor, i, true
			}
			highest, count = t, 0
		}
		count++
	}
	return len(runs) - mergeFactor, len(runs), count >= mergeFactor
}

// mergeRuns replaces neighbouring runs by one, if there are enough of one tier. For want of space, and where one is
// damaged, it leaves them as they are: a fold can do without.
func (fo *folding) mergeRuns(ctx context.Context, refs []blockcrypt.ObjRef) ([]blockcrypt.ObjRef, error) {
	f := fo.f
	runs, err := groupRuns(refs)
	if err != nil {
		return nil, err
	}
	from, to, due := dueMerge(runs)
	if !due {
		return refs, nil
	}
	size := uint64(0)
	for _, r := range runs[from:to] {
		for _, ref := range r.parts {
			size += f.sizeOf(ctx, ref.Name)
		}
	}
	if fits, err := f.fits(ctx, f.pendingSpace()+size); err != nil || !fits {
		return refs, err
	}
	before := len(fo.records)
	merged, err := fo.merge(ctx, runs[from:to])
	if isFull(err) || harms(err) {
		f.logger.Warn("records of folds are not merged", "cause", err)
		left := fo.records[before:]
		fo.records = fo.records[:before]
		if err := f.store.Delete(ctx, left...); err != nil {
			return nil, fmt.Errorf("take back fold records: %w", err)
		}
		return refs, nil
	}
	if err != nil {
		return nil, fmt.Errorf("merge fold records: %w", err)
	}
	var out []blockcrypt.ObjRef
	for i, r := range runs {
		switch {
		case i < from || i >= to:
			out = append(out, r.parts...)
			continue
		case i == from:
			out = append(out, merged...)
		}
		for _, old := range r.parts {
			fo.bury(old.Name, 0, f.sizeOf(ctx, old.Name))
		}
	}
	return out, nil
}

// merge writes one run of what neighbouring runs say, the newest first. It holds one part of each in memory.
func (fo *folding) merge(ctx context.Context, runs []foldRun) (parts []blockcrypt.ObjRef, err error) {
	f := fo.f
	readers := make([]*runReader, len(runs))
	for i := range runs {
		readers[i] = &runReader{f: f, rest: runs[i].parts}
		if err := readers[i].load(ctx); err != nil {
			return nil, err
		}
	}
	newest, oldest := readers[0].rec, readers[len(readers)-1].rec
	head := blockcrypt.FoldRecord{Seq: newest.Seq, From: oldest.From, Time: newest.Time, Cut: newest.Cut, Term: f.term.Number}
	out := head
	put := func() error {
		ref, err := fo.putRecord(ctx, &out)
		parts, out = append(parts, ref), head
		return err
	}
	purged := f.grave.purgedTo()
	for {
		name, any := "", false
		for _, r := range readers {
			if !r.done && (!any || r.name < name) {
				name, any = r.name, true
			}
		}
		if !any {
			break
		}
		var l line
		for _, r := range readers {
			if !r.done && r.name == name {
				if err := r.take(ctx, &l); err != nil {
					return nil, err
				}
			}
		}
		if l.forgotten(head.From, purged) {
			continue
		}
		if len(out.Born)+len(out.Dead) > f.limits.recordLines-2 {
			if err := put(); err != nil {
				return nil, err
			}
		}
		if l.born != nil {
			out.Born = append(out.Born, *l.born)
		}
		if l.dead != nil {
			out.Dead = append(out.Dead, *l.dead)
		}
	}
	if len(out.Born)+len(out.Dead) > 0 || len(parts) == 0 {
		if err := put(); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// line is what runs say of one object.
type line struct {
	born *blockcrypt.Born
	dead *blockcrypt.Dead
}

// forgotten reports whether nobody needs to know of an object any more: it has died, is deleted, and no older run tells of
// its birth. Fold records are born without a word.
func (l *line) forgotten(from, purged uint64) bool {
	return l.dead != nil && l.dead.Died <= purged && (l.born != nil || l.dead.Birth >= from || isFold(l.dead.Name))
}

// isFold reports whether a name is that of a fold record.
func isFold(name string) bool {
	n, err := blockcrypt.ParseName(name)
	return err == nil && n.Kind == blockcrypt.KindFold
}

// runReader reads the lines of a run in the order of their names.
type runReader struct {
	f          *FS
	rest       []blockcrypt.ObjRef // parts that are not read yet
	rec        *blockcrypt.FoldRecord
	born, dead int    // the next ones of rec
	name       string // of the next line
	done       bool
}

// load takes the next parts until there is a line.
func (r *runReader) load(ctx context.Context) error {
	for r.rec == nil || r.born == len(r.rec.Born) && r.dead == len(r.rec.Dead) {
		if len(r.rest) == 0 {
			r.done = true
			return nil
		}
		rec, err := r.f.loadFold(ctx, r.rest[0])
		if err != nil {
			return err
		}
		r.rec, r.rest, r.born, r.dead = rec, r.rest[1:], 0, 0
	}
	last := r.name
	if r.born < len(r.rec.Born) {
		r.name = r.rec.Born[r.born].Name
	}
	if r.dead < len(r.rec.Dead) && (r.born == len(r.rec.Born) || r.rec.Dead[r.dead].Name < r.name) {
		r.name = r.rec.Dead[r.dead].Name
	}
	if r.name <= last {
		return fmt.Errorf("%w: fold %d names %s after %s", ErrDamaged, r.rec.Seq, r.name, last)
	}
	return nil
}

// take gives the next line, and goes on.
func (r *runReader) take(ctx context.Context, l *line) error {
	if r.born < len(r.rec.Born) && r.rec.Born[r.born].Name == r.name {
		l.born = &r.rec.Born[r.born]
		r.born++
	}
	if r.dead < len(r.rec.Dead) && r.rec.Dead[r.dead].Name == r.name {
		l.dead = &r.rec.Dead[r.dead]
		r.dead++
	}
	return r.load(ctx)
}
