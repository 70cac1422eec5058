package crash

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/remote"
	"envfs/remote/cache"
	"envfs/remote/dir/memfs"
)

// judge looks at what ends of a voyage leave.
type judge struct {
	*voyage
	tape  *tape
	logs  map[int]*memfs.Log
	wrote map[string]*request // by root
	shown map[string]*tree    // what each root names; once seen it never changes
	seed  uint64
}

func newJudge(v *voyage, seed uint64) *judge {
	j := &judge{voyage: v, tape: v.bucket.tape, seed: seed, logs: make(map[int]*memfs.Log), wrote: make(map[string]*request),
		shown: map[string]*tree{string(v.bucket.tape.base.root()): v.machines[0].before}}
	for _, a := range v.machines {
		j.logs[a.id] = a.stage.Log()
	}
	for i := range j.tape.events {
		if e := &j.tape.events[i]; e.what == evBegin && e.req.kind == reqReplace && e.req.names[0] == blockcrypt.RootName {
			j.wrote[string(e.req.data)] = e.req
		}
	}
	return j
}

// at returns a world with the bucket of an end, not on tape.
func (j *judge) at(c *cut, number uint64) *world {
	w := *j.world
	w.bucket = &bucket{all: maps.Clone(c.bucket)}
	clock := *newClock()
	clock.now = j.clock.Now()
	w.clock = &clock
	w.seeds = []uint64{j.seed, number}
	return &w
}

// position is where a machine's history stands at an end.
func position(c *cut, a *machine) int { return c.disk[a.id] + c.at }

// names returns what the root of a bucket shows.
func (j *judge) names(w *world) (*tree, error) {
	root := string(w.bucket.now().root())
	got, err := w.seen()
	if err != nil {
		return nil, err
	}
	if was := j.shown[root]; was != nil {
		if !was.equal(got, nil) {
			return nil, fmt.Errorf("root shows another tree than it did:\n\t%s", strings.Join(was.diff(got, nil), "\n\t"))
		}
		return got, nil
	}
	r := j.wrote[root]
	if r == nil {
		return nil, errors.New("nobody has written this root")
	}
	a := j.machines[r.by]
	p := j.tape.events[r.begun].disk[a.id] + r.begun + 1
	if _, _, err := a.hist.find(got, p, a.hist.publication(p-1)); err != nil {
		return nil, fmt.Errorf("what machine %d has published: %w", a.id, err)
	}
	j.shown[root] = got
	return got, nil
}

// crashAt checks an end: what is published is whole; some of what can follow is right.
func (j *judge) crashAt(at int, number uint64) error {
	rng := rand.New(source(j.seed, number))
	c := j.tape.cutAt(at, rng)
	err := j.crash(c, rng, number)
	if err == nil {
		return nil
	}
	return fmt.Errorf("end %d of %d, %v: %w", number, len(j.tape.events), c, err)
}

func (j *judge) crash(c *cut, rng *rand.Rand, number uint64) error {
	w := j.at(c, number)
	shown, err := j.names(w)
	if err != nil {
		return fmt.Errorf("who only reads: %w", err)
	}
	writer := -1
	if r := j.wrote[string(c.bucket.root())]; r != nil {
		writer = r.by
	}
	follow := func() error { return j.follow(c, rng, number, shown) }
	turns := []func() error{follow}
	if writer >= 0 {
		a := j.machines[writer]
		mode := drawMode(rng)
		turns = append(turns, func() error { return j.goesOn(w, c, a, mode, rng) }, func() error { return j.takenOver(w, c, a, mode, rng, shown) })
		if writer > 0 {
			last := j.machines[rng.IntN(writer)]
			turns = append(turns, func() error {
				return j.comesBack(w, c, last, mode, rng, shown, j.machines[last.id+1].hist.steps[0].tree, true)
			})
		}
	}
	return turns[rng.IntN(len(turns))]()
}

// follow has a follower that shows an earlier moment arrive at this one.
func (j *judge) follow(c *cut, rng *rand.Rand, number uint64, want *tree) error {
	earlier := j.tape.cutAt(rng.IntN(c.at+1), nil)
	w := j.at(earlier, number)
	f, err := w.reader(fs.Options{Follow: true})
	if err != nil {
		return fmt.Errorf("follow before event %d: %w", earlier.at, err)
	}
	_, err = dump(w.ctx, f)
	w.bucket.become(c.bucket)
	if err == nil {
		_, err = f.CatchUp(w.ctx)
		if err != nil && strings.Contains(err.Error(), "keys were changed") { // it says so, and shows what it did
			return f.Close(w.ctx)
		}
	}
	var got *tree
	if err == nil {
		got, err = dump(w.ctx, f)
	}
	if err == nil && !want.equal(got, nil) {
		err = fmt.Errorf("another tree is shown:\n\t%s", strings.Join(want.diff(got, nil), "\n\t"))
	}
	if err = errors.Join(err, f.Close(w.ctx)); err != nil {
		return fmt.Errorf("who follows since event %d: %w", earlier.at, err)
	}
	return nil
}

// goesOn has the writer mount again.
func (j *judge) goesOn(w *world, c *cut, a *machine, mode memfs.Mode, rng *rand.Rand) error {
	fail := func(what string, err error) error {
		return fmt.Errorf("machine %d, %s: %s: %w", a.id, modeName(mode), what, err)
	}
	p, power := position(c, a), mode&^memfs.NamesOnSync != memfs.ModePrefix
	m := j.logs[a.id].State(rng, c.disk[a.id], mode)
	b := w.machine(a.id, m, emptyTree(w.clock))
	if err := b.open(fs.Options{}); err != nil {
		return fail("mount", err)
	}
	got, err := dump(w.ctx, b.fs)
	if err != nil {
		return fail("read", err)
	}
	_, now, err := a.hist.match(got, p, power)
	if err != nil {
		return fail("mounted", err)
	}
	b.startFrom(now)
	b.failed = a.failed
	b.aside = b.actsAndPublishes
	steps := []func() error{b.verify, b.isSeen, b.acts, b.publish, b.isSeen, b.acts, func() error { return b.publishes(b.foldBeside) }, b.isSeen, b.graceEnds}
	for i, do := range steps {
		if err := do(); err != nil {
			return fail(fmt.Sprintf("going on, %d", i), err)
		}
	}
	return nil
}

// startFrom begins a history.
func (a *machine) startFrom(t *tree) {
	a.tree, a.nextID = t, 0
	for id := range t.inodes {
		a.nextID = max(a.nextID, id+1)
	}
	a.hist = history{steps: []step{{what: "mounted", kind: stepOp, tree: t}}}
}

// isSeen checks that others see what is here, nothing of which waits.
func (a *machine) isSeen() error {
	got, err := a.w.seen()
	if err != nil {
		return fmt.Errorf("who reads then: %w", err)
	}
	if _, _, err := a.hist.find(got, a.at(), a.hist.publication(a.at())); err != nil {
		return fmt.Errorf("who reads then: %w", err)
	}
	return nil
}

// graceEnds folds until the grace of all that is superseded has ended, and checks what lies in the bucket then.
func (a *machine) graceEnds() error {
	work := func() error { return a.mkdirNew() }
	mount := func() error { return a.publishes(a.remount) }
	pass := func() error { a.clock.advance(32 * 24 * time.Hour); return nil }
	fold := func() error { return a.publishes(a.foldBeside) }
	a.aside = nil
	for i, do := range []func() error{work, fold, pass, mount, work, fold, pass, work, fold, pass, mount, work, fold, a.sweep, work, fold, a.verify, a.isSeen, a.isTidy} {
		if err := do(); err != nil {
			return fmt.Errorf("after the grace, %d: %w", i, err)
		}
	}
	return errors.Join(a.closeHandles(), a.store.Close())
}

func (a *machine) mkdirNew() error {
	return a.mkdir(fmt.Sprintf("/grace%d", len(a.hist.steps)))
}

// isTidy checks that nothing lies in the bucket that nothing names. The vault was folded, and nothing was done since.
func (a *machine) isTidy() error {
	all := a.far.now()
	file, prefix, err := fs.Peek(a.ctx, a.store, "")
	if err != nil {
		return err
	}
	keys, err := a.opener.unlockNewest(a.ctx, a.store, file)
	if err != nil {
		return err
	}
	v := blockcrypt.Vault{Suite: blockcrypt.Suite(file.Params().Suite), ID: file.VaultID()}
	root, err := v.OpenRoot(keys, all.root())
	if err != nil {
		return err
	}
	recs, err := foldRecords(a.ctx, a.store, v, keys, root.Fold)
	if err != nil {
		return err
	}
	named := map[string]bool{blockcrypt.RootName: true, blockcrypt.KeyCopyName: true, prefix.KeyFile.Name: true, root.Fold.Name: true}
	needed := make(map[string]bool)
	for _, rec := range recs {
		for _, r := range rec.Runs {
			named[r.Name] = true
		}
		for _, b := range rec.Born {
			needed[b.Name] = true
		}
	}
	for _, rec := range recs {
		for _, d := range rec.Dead {
			delete(needed, d.Name)
			if d.Died > root.Purged {
				named[d.Name] = true
			}
		}
	}
	for name := range needed {
		if named[name] = true; all[name] == nil {
			return fmt.Errorf("%s is needed and gone", name)
		}
	}
	newest := uint64(0)
	for _, t := range root.Terms {
		newest = max(newest, t.Number)
	}
	var left []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n, err := blockcrypt.ParseName(name)
		switch {
		case err != nil:
			return fmt.Errorf("%s is no object", name)
		case named[name], n.Kind == blockcrypt.KindOldRoot, n.Kind == blockcrypt.KindKeyFile,
			n.Kind == blockcrypt.KindSegment && n.Term == newest: // they stay for one fold more
		default:
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("nothing names %q", left)
	}
	return a.audit()
}

// takenOver has a new machine take the vault over.
func (j *judge) takenOver(w *world, c *cut, a *machine, mode memfs.Mode, rng *rand.Rand, shown *tree) error {
	b := w.machine(len(j.machines), memfs.New(), shown)
	err := b.open(fs.Options{Takeover: true})
	if err == nil {
		err = b.follows(a, position(c, a))
	}
	shown = b.tree
	b.aside = b.actsAndPublishes
	steps := []func() error{b.verify, b.acts, b.publish, b.isSeen, b.acts, func() error { return b.publishes(b.foldBeside) }, b.isSeen}
	for range rng.IntN(3) {
		steps = append(steps, b.acts, func() error { return b.publishes(b.foldBeside) })
	}
	steps = append(steps, b.closeHandles, func() error { return b.fs.Close(w.ctx) })
	for i, do := range steps {
		if err != nil {
			return fmt.Errorf("who takes over, %d: %w", i, err)
		}
		err = do()
	}
	if err != nil {
		return fmt.Errorf("who takes over: %w", err)
	}
	return j.comesBack(w, c, a, mode, rng, b.tree, shown, false)
}

// comesBack has a machine mount that was overtaken. published is what it had published, now what the vault holds; late says that
// the grace may have ended since.
func (j *judge) comesBack(w *world, c *cut, a *machine, mode memfs.Mode, rng *rand.Rand, now, published *tree, late bool) error {
	fail := func(what string, err error) error {
		return fmt.Errorf("machine %d, overtaken, %s: %s: %w", a.id, modeName(mode), what, err)
	}
	p, power := position(c, a), mode&^memfs.NamesOnSync != memfs.ModePrefix
	m := j.logs[a.id].State(rng, c.disk[a.id], mode)
	b := w.machine(a.id, m, now)
	err := b.open(fs.Options{Takeover: true})
	if err == nil {
		if err := b.verify(); err != nil {
			return fail("mounted", err)
		}
		if _, _, err := a.hist.match(published, p, power); err != nil {
			return fail("mounted as if nothing were lost", err)
		}
		return b.store.Close()
	}
	if !errors.Is(err, fs.ErrOvertaken) {
		return fail("mount", err)
	}
	if err := b.disk.setAside(); err != nil {
		return fail("set aside", err)
	}
	lost, err := w.lost(b)
	if err != nil {
		return fail("open what was lost", err)
	}
	was, err := dump(w.ctx, lost)
	torn := (power || late) && errors.Is(err, fs.ErrDamaged) // what was not synced may miss a part, or what has lost its grace
	if err == nil {
		_, _, err = a.hist.match(was, p, power)
	}
	if err != nil && !torn {
		return fail("what was lost", err)
	}
	if err := b.open(fs.Options{Takeover: true}); err != nil {
		return fail("mount again", err)
	}
	res, err := fs.Rescue(w.ctx, lost, b.fs, &fs.IntoVault{FS: b.fs, Base: "rescued/here"})
	if late && errors.Is(err, fs.ErrDamaged) || power && errors.Is(err, fs.ErrIncomplete) { // a segment that was not synced is gone, and the next one is not
		return errors.Join(lost.Close(w.ctx), b.store.Close())
	}
	if err != nil {
		return fail("rescue", err)
	}
	if len(res.Unreadable) > 0 && !torn {
		return fail("rescue", fmt.Errorf("not to be read: %q", res.Unreadable))
	}
	if err := b.fs.Publish(w.ctx); err != nil {
		return fail("publish", err)
	}
	got, err := w.seen()
	if torn {
		was = now
	}
	if err == nil {
		err = isRescued(was, now, published, got)
	}
	if err = errors.Join(err, lost.Close(w.ctx), b.store.Close()); err != nil {
		return fail("rescued", err)
	}
	return nil
}

// lost opens what a machine has set aside.
func (w *world) lost(a *machine) (*fs.FS, error) {
	st, err := cache.OpenKept(&client{bucket: w.bucket, id: a.id}, cache.Options{State: "aside/state", Kept: "aside/kept", Cache: w.temp, Disk: a.disk})
	if err != nil {
		return nil, err
	}
	file, prefix, err := fs.Peek(w.ctx, st, "")
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	data, err := st.Get(w.ctx, prefix.KeyFile.Name, 1<<20)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	keys, err := w.opener.unlock(w.ctx, file, data)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	f, err := fs.OpenLost(w.ctx, fs.Options{Store: st, Keys: keys, Manual: true, Clock: w.clock, Limits: w.limits})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return f, nil
}

// isRescued checks that what was there is as it was, and that files which were lost are below rescued/here.
func isRescued(was, now, published, got *tree) error {
	const base = "/rescued/here"
	had := make(map[uint64]bool)
	for _, t := range []*tree{now, published} {
		for _, id := range t.names {
			had[t.inodes[id].data.sum()] = true
		}
	}
	for path := range now.names {
		if !got.has(path) || path != "" && got.at(path).sum != now.at(path).sum {
			return fmt.Errorf("%s was changed by the rescue", path)
		}
	}
	for path := range was.names { // now, if not all of what was lost can be read
		n := was.at(path)
		if n.typ != blockcrypt.TypeRegular {
			continue
		}
		back := got.has(base + path)
		if was != now && back && got.at(base+path).data.sum() != n.data.sum() {
			return fmt.Errorf("%s came back as %v, was %v", path, got.at(base+path), n)
		}
		if !back && !had[n.data.sum()] {
			return fmt.Errorf("%s did not come back: %v; published %v, now %v, whole: %v", path, n, published.at(path), now.at(path), was != now)
		}
	}
	for path := range got.names {
		if was != now && strings.HasPrefix(path, base+"/") && !was.has(strings.TrimPrefix(path, base)) {
			return fmt.Errorf("%s came back, and never was", path)
		}
	}
	return nil
}

var _ remote.Store = (*client)(nil)
