package fs

import (
	"errors"
	"slices"
	"testing"

	"envfs/blockcrypt"
)

// A second rescue leaves what the first has brought, and puts beside it what was changed since.
func TestRescueAgain(t *testing.T) {
	ctx := t.Context()
	a, lost, want := lose(t, func(a *machine) { a.rig().mkdir("d") }, func(a *machine) {
		a.write("d/same", pattern(60_000, 1))
		a.write("d/edited", pattern(60_000, 2))
		file, _, err := a.fs.Lookup(ctx, a.at("d"), "edited")
		must(t, err)
		_, _, err = a.fs.Link(ctx, file, a.fs.Root(), "linked")
		must(t, err)
		link, _, err := a.fs.Symlink(ctx, a.at("d"), "symlink", "target", Cred{})
		must(t, err)
		_, _, err = a.fs.Link(ctx, link, a.fs.Root(), "symlink too")
		must(t, err)
	}, nil)
	_, first, err := a.rescued(lost)
	must(t, err)
	for name, is := range want {
		if name != "/b" && first[name[1:]] != is {
			t.Errorf("%s came back as %q, was %q", name, first[name[1:]], is)
		}
	}
	_, again, err := a.rescued(lost)
	must(t, err)
	sameTree(t, "again", again, first)
	a.write("rescued/here/d/edited", []byte("since"))
	edited := dump(t, a.fs)
	_, third, err := a.rescued(lost)
	must(t, err)
	sameTree(t, "edited", map[string]string{"": third["d/edited"]}, map[string]string{"": edited["/rescued/here/d/edited"]})
	if third["d/edited~2"] == "" || len(third) > len(first)+2 {
		t.Errorf("brought back: %q", third)
	}
	link, _, err := a.fs.Lookup(ctx, a.at("rescued"), "here")
	must(t, err)
	if _, st, err := a.fs.Lookup(ctx, link, "symlink too"); err != nil || st.Type != blockcrypt.TypeSymlink {
		t.Errorf("the symlink's second name: %+v, %v", st, err)
	}
	if names := a.rig().names("rescued"); !slices.Equal(names, []string{"here"}) {
		t.Errorf("beside it lies %q", names)
	}
	a.close()
}

// The directories that are made for it belong to who has the top one.
func TestRescueOwner(t *testing.T) {
	ctx := t.Context()
	a, lost, _ := lose(t, func(*machine) {}, func(a *machine) { a.write("f", pattern(10, 1)) }, nil)
	mode, id := uint32(0o751), uint32(1234)
	_, err := a.fs.SetAttr(ctx, a.fs.Root(), SetAttr{Mode: &mode, UID: &id, GID: &id})
	must(t, err)
	_, _, err = a.rescued(lost)
	must(t, err)
	for _, name := range []string{"rescued", "here"} {
		dir := a.fs.Root()
		if name == "here" {
			dir = a.at("rescued")
		}
		_, st, err := a.fs.Lookup(ctx, dir, name)
		must(t, err)
		if st.UID != id || st.GID != id || st.Mode != mode {
			t.Errorf("%s: %d:%d %o", name, st.UID, st.GID, st.Mode)
		}
	}
	a.close()
}

// What is durable here and not published is not remembered as what the vault is to have: when it was set aside, the vault opens.
func TestRescuePin(t *testing.T) {
	a, lost, _ := lose(t, func(*machine) {}, func(a *machine) {
		for i := range 20 {
			a.write("f", pattern(10, byte(i)))
			must(t, a.fs.Sync(t.Context()))
		}
		a.fs.pinDurable()
	}, nil)
	_, tree, err := a.rescued(lost)
	must(t, err)
	if len(tree) != 1 {
		t.Errorf("brought back: %q", tree)
	}
	a.close()
}

// What another machine gave up for an older moment, and this one has still, is told of and can be brought back.
func TestRescueGivenUp(t *testing.T) {
	ctx := t.Context()
	machines := newShared(t)
	a, b := machines("a"), machines("b")
	a.mustOpen(Options{})
	a.write("f", pattern(10, 1))
	must(t, a.fs.Publish(ctx))
	a.write("f", pattern(10, 2))
	must(t, a.fs.Sync(ctx))
	a.kill()
	b.mustOpen(Options{Takeover: true})
	b.fs.rootMu.Lock()
	must(t, b.fs.replaceRoot(ctx, func(r *blockcrypt.Root) {
		for i := range r.Terms {
			if r.Terms[i].Host == "a" {
				giveUp(&r.Terms[i], 1)
			}
		}
	}))
	b.fs.rootMu.Unlock()
	b.close()
	if err := a.open(Options{}); !errors.Is(err, ErrOvertaken) {
		t.Errorf("open: %v", err)
	}
}
