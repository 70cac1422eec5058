package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/remote/cache"
	"envfs/remote/dir/memfs"
)

// takenOver has a new machine take the vault over.
func (j *judge) takenOver(w *world, c *cut, a *machine, mode memfs.Mode, rng *rand.Rand, shown *tree) error {
	b := w.machine(len(j.machines), memfs.New(), shown)
	err := b.open(fs.Options{Takeover: true})
	if err == nil {
		err = b.follows(a, position(c, a))
	}
	shown = b.tree
	b.aside = b.actsAndPublishes
	steps := []func() error{b.verify, b.acts, b.publish, b.isSeen, b.acts, func() error { return b.publishes(b.fold) }, b.isSeen}
	for range rng.IntN(3) {
		steps = append(steps, b.acts, func() error { return b.publishes(b.fold) })
	}
	if rng.IntN(2) == 0 {
		steps = append(steps, func() error { return b.publishes(b.rewrap) }, b.isSeen)
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
	// After the grace a directory on the way to what was changed may be gone, and after a power loss a segment that was not
	// synced, while the next one is there: that is said, and what was set aside stays.
	if late && errors.Is(err, fs.ErrDamaged) || (late || power) && errors.Is(err, fs.ErrIncomplete) {
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
	back := make(map[int]bool) // files of which a name came back
	for path, id := range was.names {
		back[id] = back[id] || got.has(base+path)
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
		if was != now && got.has(base+path) && got.at(base+path).data.sum() != n.data.sum() {
			return fmt.Errorf("%s came back as %v, was %v", path, got.at(base+path), n)
		}
		if !back[was.names[path]] && !had[n.data.sum()] {
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
