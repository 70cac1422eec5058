package fs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"envfs/blockcrypt"
	"envfs/remote"
)

// graveyard holds the superseded objects that wait for the end of their grace, by the fold in which they died.
type graveyard struct {
	mu     sync.Mutex
	purged uint64 // all that died up to this fold is deleted
	plots  []plot // ascending by fold
	total  int64
}

type plot struct {
	fold  uint64
	at    time.Time
	names []string
	size  int64
}

func (g *graveyard) bytes() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

func (g *graveyard) purgedTo() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.purged
}

func (g *graveyard) add(p plot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.plots = append(g.plots, p)
	g.total += p.size
}

// oldest returns the first plot; ok is false if there is none.
func (g *graveyard) oldest() (plot, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.plots) == 0 {
		return plot{}, false
	}
	return g.plots[0], true
}

// remove notes that the first plot is empty.
func (g *graveyard) remove() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.purged = g.plots[0].fold
	g.total -= g.plots[0].size
	g.plots = g.plots[1:]
}

// bury takes in what a finished fold has superseded.
func (f *FS) bury(fo *folding) {
	f.runs = fo.runs
	p := plot{fold: fo.number, at: goTime(f.rootNow().Time)}
	for _, d := range fo.dead {
		p.names = append(p.names, d.Name)
		p.size += int64(d.Length)
	}
	f.grave.add(p)
}

// dig fills the graveyard from the fold records, when a vault is opened for writing.
func (f *FS) dig(ctx context.Context, last *blockcrypt.FoldRecord) error {
	f.grave.purged = f.root.Purged
	byFold := make(map[uint64]*plot)
	var folds []uint64
	take := func(rec *blockcrypt.FoldRecord) {
		for _, d := range rec.Dead {
			if d.Died <= f.root.Purged {
				continue
			}
			p := byFold[d.Died]
			if p == nil {
				p = &plot{fold: d.Died, at: goTime(rec.Time)}
				byFold[d.Died] = p
				folds = append(folds, d.Died)
			}
			p.names = append(p.names, d.Name)
			p.size += int64(d.Length)
		}
	}
	take(last)
	for _, ref := range last.Runs {
		if n, err := blockcrypt.ParseName(ref.Name); err == nil && n.Seq <= f.root.Purged {
			break
		}
		rec, err := f.loadFold(ctx, ref)
		if err != nil {
			return err
		}
		take(rec)
	}
	slices.Sort(folds)
	for _, n := range folds {
		f.grave.add(*byFold[n])
	}
	return nil
}

// Bounds of what is kept for the grace on a local store.
const keepAtLeast = 1 << 30

// sharedGrace is the grace of a vault that more than one machine writes to: so long may they be apart. Only free space
// bounds it.
const sharedGrace = 30 * 24 * time.Hour

// shared reports whether more than one machine writes to the vault.
func shared(root *blockcrypt.Root) bool {
	return slices.ContainsFunc(root.Terms, func(t blockcrypt.Term) bool { return t.Host != root.Terms[0].Host })
}

// grace returns how long superseded objects are kept.
func (f *FS) grace(root *blockcrypt.Root) time.Duration {
	if shared(root) {
		return max(f.opts.Limits.Grace, sharedGrace)
	}
	return f.opts.Limits.Grace
}

// reclaim deletes superseded objects whose grace has ended, and more if they take too much space. foldMu is held.
//
// A root in roots/ promises that its tree is whole: those that need what is about to go are deleted before it, for good:
// a power loss must not bring them back alone.
func (f *FS) reclaim(ctx context.Context) error {
	f.mu.Lock()
	root := f.root // never changed once it is there
	f.mu.Unlock()
	now, live := goTime(f.vaultTime(root.Time)), root.Bytes
	settled := false // also what a mount before this one has deleted
	for {
		p, ok := f.grave.oldest()
		if !ok {
			return nil
		}
		sp, err := f.store.Space(ctx)
		if err != nil {
			return fmt.Errorf("look up free space: %w", err)
		}
		grace, bound := f.grace(root), int64(sp.Available/2)
		if !shared(root) {
			bound = min(bound, max(keepAtLeast, int64(live/4)))
		}
		if now.Sub(p.at) < grace && f.grave.bytes() <= bound {
			return nil
		}
		if err := f.checkOurs(ctx); err != nil {
			return err
		}
		dropped, err := f.dropRoots(ctx, p.fold)
		if err != nil {
			return err
		}
		if len(dropped) > 0 || !settled {
			if err := f.local.Settle(ctx, append(dropped, root.Name().String())); err != nil {
				return fmt.Errorf("delete old roots: %w", err)
			}
			settled = true
		}
		if err := f.store.Delete(ctx, p.names...); err != nil {
			return fmt.Errorf("delete superseded objects: %w", err)
		}
		f.grave.remove()
	}
}

// checkOurs makes sure that the root on the store is the one we know: who has been overtaken deletes nothing.
func (f *FS) checkOurs(ctx context.Context) error {
	f.rootMu.Lock()
	defer f.rootMu.Unlock()
	if err := f.settleFlight(ctx); err != nil {
		return err
	}
	data, err := f.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
	if err != nil {
		return fmt.Errorf("read root: %w", err)
	}
	if blockcrypt.Sum(data) != blockcrypt.Sum(f.rootData) {
		err := f.overtaken(ctx, remote.ErrChanged)
		f.stop(err)
		return err
	}
	return nil
}

// dropRoots deletes the copies of roots that need objects which died in the given fold, the oldest first, and names them.
// Roots of another line stay: they are how a fork is recognised; and so do those that were given up for an older moment.
func (f *FS) dropRoots(ctx context.Context, fold uint64) ([]string, error) {
	f.mu.Lock()
	now := &foundRoot{root: f.root}
	f.mu.Unlock()
	terms := make(map[blockcrypt.Tag]blockcrypt.Term)
	for _, t := range now.root.Terms {
		terms[t.Tag] = t
	}
	seqs := make(map[string]uint64)
	err := f.store.List(ctx, "roots/", func(i remote.Info) error {
		n, err := blockcrypt.ParseName(i.Name)
		if err != nil {
			return nil
		}
		t, known := terms[n.R.Tag()]
		if known && keepsRoot(&t, n.Seq) {
			return nil
		}
		data, err := f.store.Get(ctx, i.Name, blockcrypt.MaxRoot)
		if errors.Is(err, remote.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		p, err := blockcrypt.ParseRootPrefix(data)
		if err != nil {
			return nil // not ours to judge
		}
		if !known { // forgotten, or of another line
			root, err := f.vault.OpenRoot(f.keyring(), data)
			if err != nil || !covers(now, &foundRoot{root: root}) {
				return nil
			}
		}
		if last, err := blockcrypt.ParseName(p.Fold.Name); err == nil && last.Seq < fold {
			seqs[i.Name] = n.Seq
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list roots: %w", err)
	}
	names := slices.SortedFunc(maps.Keys(seqs), func(a, b string) int { return cmp.Compare(seqs[a], seqs[b]) })
	if err := f.store.Delete(ctx, names...); err != nil {
		return nil, fmt.Errorf("delete old roots: %w", err)
	}
	return names, nil
}

// dropAged deletes the copies of roots whose grace has ended, when a vault is opened for writing: where nothing is
// superseded, no fold does. The grace of a root begins with the next one.
func (f *FS) dropAged(ctx context.Context, sv *survey) error {
	until := goTime(f.root.Time).Add(-f.grace(f.root))
	line := []*foundRoot{sv.chosen}
	for _, r := range sv.seen {
		if r != sv.chosen && covers(sv.chosen, r) {
			line = append(line, r)
		}
	}
	slices.SortFunc(line, func(a, b *foundRoot) int { return cmp.Compare(a.root.Seq, b.root.Seq) })
	var names []string
	for i, r := range line[:len(line)-1] {
		w := r.writer()
		if t := findTerm(f.root, w); t != nil && keepsRoot(t, r.root.Seq) {
			continue
		}
		n, err := blockcrypt.ParseName(r.name)
		if err == nil && n.Kind == blockcrypt.KindOldRoot && goTime(line[i+1].root.Time).Before(until) {
			names = append(names, r.name)
		}
	}
	if err := f.store.Delete(ctx, names...); err != nil {
		return fmt.Errorf("delete old roots: %w", err)
	}
	return nil
}
