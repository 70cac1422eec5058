package copies

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/remote"
)

// fork is a vault that two machines went on from.
type fork struct {
	sides [2]*film
	tags  [2]map[blockcrypt.Tag]bool // of what one side has made
	end   time.Time
}

var forkHosts = []string{"alpha", "beta"}

func (b *bench) fork(rnd *rand.Rand) *fork {
	path, h := b.origin()
	base := newFilm(h)
	b.play(base, path, rnd, forkHosts[0], 1+rnd.IntN(2))
	common := tagsOf(base.frames[len(base.frames)-1].objects)
	fk := new(fork)
	for i, path := range []string{path, b.duplicate(path)} {
		fm := newFilm(base.history.clone())
		b.play(fm, path, rnd, forkHosts[i], 1+rnd.IntN(2))
		fk.sides[i], fk.tags[i] = fm, make(map[blockcrypt.Tag]bool)
		for _, f := range fm.frames {
			maps.Copy(fk.tags[i], tagsOf(f.objects))
		}
		maps.DeleteFunc(fk.tags[i], func(tag blockcrypt.Tag, _ bool) bool { return common[tag] })
	}
	fk.end = b.clock.Now()
	return fk
}

func tagOf(name string) (blockcrypt.Tag, bool) {
	n, err := blockcrypt.ParseName(name)
	return n.R.Tag(), err == nil && n.Kind != blockcrypt.KindRoot && n.Kind != blockcrypt.KindKeyCopy
}

func tagsOf(objects map[string]string) map[blockcrypt.Tag]bool {
	tags := make(map[blockcrypt.Tag]bool)
	for name := range objects {
		if tag, ok := tagOf(name); ok {
			tags[tag] = true
		}
	}
	return tags
}

// of returns the side that alone has made an object, or -1.
func (fk *fork) of(name string) int {
	tag, ok := tagOf(name)
	return slices.IndexFunc(fk.tags[:], func(tags map[blockcrypt.Tag]bool) bool { return ok && tags[tag] })
}

// shows returns the side of which a tree is a moment; -1: of both.
func (fk *fork) shows(t *testing.T, sum digest) int {
	_, a := fk.sides[0].moments[sum]
	_, b := fk.sides[1].moments[sum]
	switch {
	case a && b:
		return -1
	case a:
		return 0
	case !b:
		t.Fatal("no moment of history")
	}
	return 1
}

// joined is what one side's vault has become when the other's came there, maybe not all of it.
type joined struct {
	torn
	own    int
	theirs map[string]string // all that the other side had
}

func (fk *fork) join(rnd *rand.Rand) *joined {
	j := &joined{own: rnd.IntN(2)}
	var at [2]int
	for i, fm := range fk.sides {
		at[i] = len(fm.frames) - 1
		if rnd.IntN(2) == 0 {
			at[i] = rnd.IntN(len(fm.frames))
		}
	}
	mine := fk.sides[j.own].frames[at[j.own]].objects
	j.theirs = fk.sides[1-j.own].frames[at[1-j.own]].objects
	j.how = fmt.Sprintf("moment %d of side %d, %d of the other", at[j.own], j.own, at[1-j.own])
	j.objects, j.exact = maps.Clone(j.theirs), true
	for name, data := range mine {
		if len(data) >= len(j.objects[name]) || name == "root" {
			j.objects[name] = data
		}
	}
	if rnd.IntN(4) == 0 {
		j.objects["root"] = fk.sides[j.own].frames[0].objects["root"]
		j.how += ", root of neither"
	}
	switch rnd.IntN(4) {
	case 0:
		j.thin(rnd)
	case 1:
		for range 1 + rnd.IntN(6) {
			j.cut(rnd)
		}
	case 2:
		j.thin(rnd)
		j.cut(rnd)
	}
	return j
}

// settle makes path the place where the own side's vault lies, to which the rest is brought. It reports whether that
// side can be written to at all.
func (b *bench) settle(path string, j *joined, fk *fork) bool {
	t := b.t
	t.Helper()
	mine := maps.Clone(j.objects)
	maps.DeleteFunc(mine, func(name, _ string) bool { return fk.of(name) == 1-j.own })
	store(t, path, mine)
	o := machine(forkHosts[j.own])
	o.Takeover, o.AcceptOlder = true, true
	m, err := b.open(path, o, fk.sides[j.own].clone())
	if err == nil {
		err = m.f.Close(ctx)
	}
	if err != nil {
		must(t, os.RemoveAll(path))
		return false
	}
	maps.DeleteFunc(j.objects, func(name, _ string) bool { return fk.of(name) != 1-j.own })
	store(t, path, j.objects)
	j.objects = objects(t, path)
	j.how += ", where it lies"
	return true
}

// TestTornForks joins what two machines have made of a vault, where the vault lies or in a copy, and not all of it:
// whoever goes on where that is possible, the work of the other stays, and is recognised when the rest of it comes.
func TestTornForks(t *testing.T) {
	seed := newSeed(t)
	b := newBench(t)
	b.seed(seed, 0)
	fk := b.fork(rand.New(rand.NewPCG(seed, 0)))
	counts := make(map[string]int)
	for _, i := range upTo(*tornFlag) {
		var j *joined
		b.tornRun(t, seed, i, fk.end, func(b *bench, path string, rnd *rand.Rand) *torn {
			j = fk.join(rnd)
			if rnd.IntN(2) == 0 || !b.settle(path, j, fk) {
				store(b.t, path, j.objects)
			}
			b.t.Log(j.how)
			return &j.torn
		}, func(b *bench, path string, _ *torn, rnd *rand.Rand) { counts[b.openFork(path, j, fk, rnd)]++ })
	}
	t.Logf("%v", counts)
}

// openFork goes on from what was joined, if any flag allows that, and checks what is left of the side that is not gone
// on from.
func (b *bench) openFork(path string, j *joined, fk *fork, rnd *rand.Rand) string {
	t := b.t
	t.Helper()
	m, err := b.open(path, fs.Options{ReadOnly: true}, nil)
	if err != nil {
		if !errors.Is(err, fs.ErrIncomplete) && !strings.Contains(err.Error(), "read key file") {
			t.Fatalf("for reading: %v", err)
		}
		return "not opened"
	}
	m.kill()
	before := objects(t, path)
	o := machine([]string{"alpha", "beta", "gamma"}[rnd.IntN(3)])
	o.Takeover = true
	how := "at once"
	if m, err = b.open(path, o, nil); err != nil {
		keeps(t, path, before)
		o.AcceptOlder, how = true, "accepted"
		m, err = b.open(path, o, nil)
	}
	switch {
	case errors.Is(err, fs.ErrFork):
		keeps(t, path, before)
		return "fork"
	case errors.Is(err, fs.ErrIncomplete):
		keeps(t, path, before)
		return "incomplete"
	case err != nil:
		t.Fatalf("for writing: %v", err)
	}
	if j.exact && fk.bothIn(j.objects) {
		t.Fatalf("a fork was written to, %s", how)
	}
	tree, err := read(m.f)
	if err != nil {
		m.kill()
		return "unreadable"
	}
	side := fk.shows(t, tree.digest())
	line := b.predecessors(path)
	var last string                       // root of that side that was gone on from; "": not known
	if root := b.rootAt(path); side < 0 { // what is shown is from before both, but maybe by a root of one of them
		if at := slices.IndexFunc(line, func(name string) bool { return fk.of(name) >= 0 }); at >= 0 {
			last, side = line[at], fk.of(line[at])
		}
		for _, term := range root.Terms {
			for i := range fk.tags {
				if side < 0 && how == "at once" && fk.tags[i][term.Tag] {
					side = i
				}
			}
		}
	}
	m.history = m.from()
	if !b.live(m, rnd) {
		return "unreadable"
	}
	now := objects(t, path)
	for name, data := range j.objects {
		given := last != "" && rootSeq(name) > rootSeq(last)
		if whose := fk.of(name); whose < 0 || whose == side && !given || side < 0 && strings.HasPrefix(name, "journal/") {
			continue // replayed, it may be, but of no effect
		}
		if !kept(now, name, data) {
			t.Errorf("%s, side %d was gone on from, and deleted: %s", how, side, name)
		}
	}
	if side == j.own && b.bringRest(path, j, fk) {
		b.unwritable(path, fs.ErrFork)
		how += ", found later"
	}
	return how
}

// rootSeq returns the sequence of the root that name is a copy of, else 0.
func rootSeq(name string) uint64 {
	if n, err := blockcrypt.ParseName(name); err == nil && n.Kind == blockcrypt.KindOldRoot {
		return n.Seq
	}
	return 0
}

// bothIn reports whether each side has left a root.
func (fk *fork) bothIn(objects map[string]string) bool {
	var has [2]bool
	for name := range objects {
		if i := fk.of(name); i >= 0 && strings.HasPrefix(name, "roots/") {
			has[i] = true
		}
	}
	return has[0] && has[1]
}

// live goes on for some months. It reports whether it could: what nobody had read may be missing.
func (b *bench) live(m *mount, rnd *rand.Rand) bool {
	t := b.t
	t.Helper()
	m.work("torn")
	if err := m.f.Fold(ctx); errors.Is(err, remote.ErrNotExist) || errors.Is(err, fs.ErrDamaged) {
		m.kill()
		return false
	} else {
		must(t, err)
	}
	for i := range 4 {
		_, _, err := m.f.Sweep(ctx)
		if errors.Is(err, fs.ErrDamaged) {
			m.kill()
			return false
		}
		must(t, err)
		m.write("/shared", pattern(30_000+i, "again"))
		b.clock.advance(40 * 24 * time.Hour)
		if rnd.IntN(2) == 0 {
			m.kill()
		} else {
			m.close()
		}
		o := machine("alpha")
		o.Takeover = true
		m = b.mustOpen(m.path, o, m.history)
		m.write("/shared", pattern(30_000-i, "again"))
		m.fold()
	}
	m.close()
	return true
}

// bringRest brings all of the other side to where was gone on. It reports whether a root is among it that nobody there
// has known of.
func (b *bench) bringRest(path string, j *joined, fk *fork) bool {
	known := b.rootAt(path).Terms
	now := objects(b.t, path)
	come := false
	for name, data := range j.theirs {
		if fk.of(name) != 1-j.own || now[name] == data {
			continue
		}
		store(b.t, path, map[string]string{name: data})
		n, err := blockcrypt.ParseName(name)
		must(b.t, err)
		come = come || n.Kind == blockcrypt.KindOldRoot && !slices.ContainsFunc(known, func(t blockcrypt.Term) bool {
			return t.Tag == n.R.Tag() && n.Seq <= t.LastRootSeq
		})
	}
	return come
}
