package crash

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"

	"envfs/blockcrypt"
	"envfs/fs"
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
		got, err = dumpWith(w.ctx, f, &client{bucket: w.bucket, id: -1})
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
	got, err := b.dump()
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
	steps := []func() error{b.verify, b.isSeen, b.tellsKeyUse, b.acts, b.publish, b.isSeen, b.acts, func() error { return b.publishes(b.fold) }, b.isSeen,
		func() error { return b.publishes(b.rewrap) }, b.isSeen, b.graceEnds}
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
