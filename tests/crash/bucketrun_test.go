package crash

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"envfs/fs"
	"envfs/remote"
	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

// voyage is a run of random work on a vault in a bucket: by one machine after another, each of which takes it over from the
// one before.
type voyage struct {
	*world
	rng      *rand.Rand
	machines []*machine
	now      *machine
}

// newVoyage makes a vault in a bucket.
func newVoyage(ctx context.Context, temp string, seeds ...uint64) (*voyage, error) {
	c := newClock()
	w := &world{ctx: ctx, opener: new(opener), clock: c, limits: small, temp: temp, seeds: seeds, bucket: &bucket{all: make(objects)}}
	m := memfs.New()
	if err := initVault(ctx, m, seeded(append(seeds, 2)...), c); err != nil {
		return nil, err
	}
	st, err := dir.Open("vault", dir.Options{FS: m, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer st.Close()
	err = st.List(ctx, "", func(i remote.Info) error {
		data, err := st.Get(ctx, i.Name, 1<<20)
		w.bucket.all[i.Name] = data
		return err
	})
	w.bucket.tape = &tape{base: maps.Clone(w.bucket.all), disks: make(map[int]func() int)}
	return &voyage{world: w, rng: rand.New(source(append(seeds, 5)...))}, err
}

// close ends the machines that are still there.
func (v *voyage) close() error {
	var errs []error
	for _, a := range v.machines {
		if !a.dead && a.store != nil {
			a.dead = true
			errs = append(errs, a.store.Close())
		}
	}
	return errors.Join(errs...)
}

// sharedEvents is what befalls a vault in a bucket.
func (v *voyage) sharedEvents() []action {
	a := v.now
	return []action{
		{8, func(*session) error { return a.publish() }},
		{5, func(*session) error { return a.publishes(a.fold) }},
		{4, func(*session) error { return v.faults(a.publish) }},
		{3, func(*session) error { return v.faults(func() error { return a.publishes(a.fold) }) }},
		{2, func(*session) error { return a.publishes(a.changeKeys) }},
		{1, func(*session) error { return v.keysBesideFaults() }},
		{2, func(*session) error { return a.publishes(a.rewrap) }},
		{1, func(*session) error { return v.faults(func() error { return a.publishes(a.rewrap) }) }},
		{1, func(*session) error { return a.publishes(func() error { return a.reencrypt(a.somewhere()) }) }},
		{2, func(*session) error { return v.killed() }},
		{2, func(*session) error { return a.publishes(a.remount) }},
		{2, func(*session) error { return a.rewrite() }},
		{1, func(*session) error { return a.sweep() }},
		{3, func(*session) error {
			a.clock.advance(time.Duration(v.rng.IntN(40*24)) * time.Hour)
			return nil
		}},
	}
}

// killed kills the machine and mounts it again.
func (v *voyage) killed() error { return v.now.publishes(v.now.kill) }

// faults does a step while the network is bad, and sees that it is done afterwards.
func (v *voyage) faults(do func() error) error {
	return v.faultsThen(do, func() error {
		if v.now.fs.Sync(v.now.ctx) != nil { // it does not go on
			return v.killed()
		}
		return v.now.publish()
	})
}

// faultsThen does a step while the network is bad, and another if that was noticed.
func (v *voyage) faultsThen(do, then func() error) error {
	b, a := v.bucket, v.now
	rng := rand.New(rand.NewPCG(v.rng.Uint64(), 0))
	share := []float64{0.1, 0.3, 0.7}[rng.IntN(3)]
	b.mu.Lock()
	b.fault = func(*request) fault { // b.mu is held
		if rng.Float64() >= share {
			return faultNone
		}
		return faultLost + fault(rng.IntN(3))
	}
	b.mu.Unlock()
	err := do()
	b.mu.Lock()
	b.fault = nil
	b.mu.Unlock()
	if err == nil || !errors.Is(err, errNoReply) {
		return err
	}
	a.failed = true
	return then()
}

// keysBesideFaults changes the keys while the network is bad. Who does not know what became of it mounts again.
func (v *voyage) keysBesideFaults() error {
	a := v.now
	a.onError = func(err error) (bool, error) { return errors.Is(err, errNoReply), err }
	defer func() { a.onError = nil }()
	return v.faultsThen(func() error { return a.publishes(a.changeKeys) }, v.killed)
}

// reign has a machine take the vault over and work.
func (v *voyage) reign(acts int) error {
	last := v.now
	a := v.machine(len(v.machines), memfs.New(), emptyTree(v.clock))
	v.machines = append(v.machines, a)
	if err := a.open(fs.Options{Takeover: last != nil}); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	if last != nil {
		if err := a.follows(last, last.at()); err != nil {
			return fmt.Errorf("take over: %w", err)
		}
	}
	v.now = a
	a.aside = a.actsAndPublishes
	for n := range acts {
		list := actions
		if v.rng.IntN(7) == 0 {
			list = v.sharedEvents()
		}
		if err := a.draw(list); err != nil {
			return fmt.Errorf("%w\nafter %v", err, a.hist.last(12))
		}
		if n == acts/2 && last != nil {
			if err := v.wakes(last); err != nil {
				return err
			}
		}
	}
	if err := a.verify(); err != nil {
		return err
	}
	if v.rng.IntN(3) == 0 {
		a.dead = true
		return a.store.Close()
	}
	return nil
}

// wakes has a machine go on that has been overtaken. It changes nothing, and says so if it had more.
func (v *voyage) wakes(last *machine) error {
	if last.dead {
		return nil
	}
	root := string(v.bucket.now().root())
	err := last.acts()
	if err == nil {
		err = errors.Join(last.fs.Publish(last.ctx), last.fs.Fold(last.ctx))
	}
	last.dead = true
	closed := last.store.Close()
	switch {
	case string(v.bucket.now().root()) != root:
		return errors.New("one that was overtaken has replaced root")
	case err == nil, errors.Is(err, fs.ErrOvertaken), errors.Is(err, fs.ErrDamaged): // what it needs may have been deleted
		return closed
	}
	return fmt.Errorf("one that was overtaken goes on: %w", err)
}

// follows checks that a machine which has taken the vault over has found what the last one had sent, up to a point of that
// one's history: at least what was published.
func (a *machine) follows(last *machine, p int) error {
	got, err := a.dump()
	if err != nil {
		return err
	}
	if _, _, err := last.hist.find(got, p, last.hist.publication(p)); err != nil {
		return err
	}
	a.startFrom(got)
	return nil
}
