package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"envfs/blockcrypt"
)

// putFoldRecord stores a fold record under a name of its own.
func (f *FS) putFoldRecord(ctx context.Context, rec *blockcrypt.FoldRecord) (ref blockcrypt.ObjRef, err error) {
	if rec.R, err = blockcrypt.NewR(f.rand, f.term.Tag); err != nil {
		return ref, fmt.Errorf("draw a fold record's version: %w", err)
	}
	epoch := f.keyring().Newest()
	kek, err := f.keyring().KEK(epoch)
	if err != nil {
		return ref, fmt.Errorf("write fold record: %w", err)
	}
	rec.Epoch = epoch
	ref.Name = blockcrypt.Name{Kind: blockcrypt.KindFold, Seq: rec.Seq, R: rec.R}.String()
	data, err := f.vault.EncodeFold(kek, ref.Name, rec)
	if err != nil {
		return ref, fmt.Errorf("write fold record: %w", err)
	}
	ref.Hash = blockcrypt.Sum(data)
	if err := f.store.Put(ctx, ref.Name, data); err != nil {
		return ref, fmt.Errorf("store fold record: %w", err)
	}
	return ref, nil
}

// putRecord stores a record and remembers it, so that abandon can take it back: the next fold may have the same number,
// and opening looks at which numbers there are.
func (fo *folding) putRecord(ctx context.Context, rec *blockcrypt.FoldRecord) (blockcrypt.ObjRef, error) {
	ref, err := fo.f.putFoldRecord(ctx, rec)
	if err == nil {
		fo.records = append(fo.records, ref.Name)
	}
	return ref, err
}

// writeRecord stores the record of a fold, and merges older ones if there are many of one tier.
func (f *FS) writeRecord(ctx context.Context, fo *folding) (blockcrypt.ObjRef, error) {
	root := f.rootNow() // publishing replaces it meanwhile, but not what is asked of it here
	runs, err := fo.mergeRuns(ctx, append([]blockcrypt.ObjRef{root.Fold}, f.runs...))
	if err != nil {
		return blockcrypt.ObjRef{}, err
	}
	rec := blockcrypt.FoldRecord{Seq: fo.number, From: fo.number, Time: f.vaultTime(root.Time),
		Term: f.term.Number, Cut: fo.cut.Number, Born: fo.born, Dead: fo.dead}
	// Parts are by name, the first of them in the fold's own record: so together they are a sorted run, too.
	slices.SortFunc(rec.Born, func(a, b blockcrypt.Born) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(rec.Dead, func(a, b blockcrypt.Dead) int { return strings.Compare(a.Name, b.Name) })
	rest := rec
	rec.Born, rec.Dead = cutLines(&rest, f.limits.recordLines)
	var parts []blockcrypt.ObjRef
	for len(rest.Born)+len(rest.Dead) > 0 {
		part := rest
		part.Born, part.Dead = cutLines(&rest, f.limits.recordLines)
		ref, err := fo.putRecord(ctx, &part)
		if err != nil {
			return ref, err
		}
		parts = append(parts, ref)
	}
	rec.Runs = append(parts, runs...)
	ref, err := fo.putRecord(ctx, &rec)
	if err != nil {
		return ref, err
	}
	fo.runs = rec.Runs
	return ref, nil
}

// maxRecord bounds the lines of one record, so that it stays below 4 MiB. What has more is a run of several records with
// the same number.
const maxRecord = 16 << 10

// cutLines takes the first lines of a record by their names, as many as one record may have.
func cutLines(rec *blockcrypt.FoldRecord, lines int) (born []blockcrypt.Born, dead []blockcrypt.Dead) {
	b, d := 0, 0
	for n := 0; n < lines && b+d < len(rec.Born)+len(rec.Dead); n++ {
		if d == len(rec.Dead) || b < len(rec.Born) && rec.Born[b].Name <= rec.Dead[d].Name {
			b++
		} else {
			d++
		}
	}
	born, dead = rec.Born[:b:b], rec.Dead[:d:d]
	rec.Born, rec.Dead = rec.Born[b:], rec.Dead[d:]
	return born, dead
}

// parts returns the record of a fold and those of its parts.
func (f *FS) parts(ctx context.Context, rec *blockcrypt.FoldRecord) ([]*blockcrypt.FoldRecord, error) {
	all := []*blockcrypt.FoldRecord{rec}
	for _, ref := range rec.Runs {
		if n, err := blockcrypt.ParseName(ref.Name); err != nil || n.Seq != rec.Seq {
			break
		}
		part, err := f.loadFold(ctx, ref)
		if err != nil {
			return nil, err
		}
		all = append(all, part)
	}
	return all, nil
}
