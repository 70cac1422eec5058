package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"envfs/keystore"
	"envfs/remote"
	remotecache "envfs/remote/cache"
	remotedir "envfs/remote/dir"
)

// setAside takes what an overtaken machine has not published out of its way, and opens it.
func (m *machine) setAside() *FS {
	m.t.Helper()
	return m.setAsideAs(nil)
}

// setAsideAs is setAside with a function that changes what was set aside before it is opened.
func (m *machine) setAsideAs(edit func(aside string)) *FS {
	t := m.t
	t.Helper()
	aside := filepath.Join(m.dir, "aside")
	must(t, os.Mkdir(aside, 0o700))
	for _, part := range []string{"state", "kept"} {
		must(t, os.Rename(filepath.Join(m.dir, part), filepath.Join(aside, part)))
	}
	if edit != nil {
		edit(aside)
	}
	var far remote.Store
	far, err := remotedir.Open(m.far, remotedir.Options{})
	must(t, err)
	if m.wrap != nil {
		far = m.wrap(far)
	}
	store, err := remotecache.OpenKept(far, remotecache.Options{State: filepath.Join(aside, "state"), Kept: filepath.Join(aside, "kept"),
		Cache: filepath.Join(aside, "cache")})
	must(t, err)
	file, _, err := Peek(t.Context(), store, "")
	must(t, err)
	p, err := keystore.KeyFile(bytes.Repeat([]byte{7}, 32))
	must(t, err)
	keys, err := file.Unlock(t.Context(), []keystore.Provider{p})
	must(t, err)
	f, err := OpenLost(t.Context(), Options{Store: store, Keys: keys, Manual: true})
	must(t, err)
	return f
}

// What a machine has not published when it is overtaken comes back whole, however the other one has folded, and whatever it
// has made of the same files.
func TestRescue(t *testing.T) {
	ctx := t.Context()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 12 {
		machines := newShared(t)
		a, b := machines("a"), machines("b")
		a.mustOpen(Options{})
		work := &busy{t: t, f: a.fs, rng: rng}
		some := func(n int) {
			for range n {
				work.step()
			}
		}
		some(30)
		must(t, a.fs.Fold(ctx))
		some(30)
		must(t, a.fs.Publish(ctx))
		if rng.IntN(2) == 0 {
			some(20)
			must(t, a.fs.Publish(ctx))
		}
		before := dump(t, a.fs)
		some(rng.IntN(40)) // not published
		must(t, a.fs.Sync(ctx))
		want := dump(t, a.fs)
		if rng.IntN(2) == 0 {
			a.kill()
		}

		b.mustOpen(Options{Takeover: true})
		sameTree(t, "taken over", dump(t, b.fs), before)
		other := &busy{t: t, f: b.fs, rng: rng}
		for range rng.IntN(4) {
			for range 30 {
				other.step()
			}
			must(t, b.fs.Fold(ctx))
		}
		b.close()

		if a.fs != nil {
			if a.fs.committed.Load() > a.fs.mine.batch {
				if err := a.fs.Publish(ctx); !errors.Is(err, ErrOvertaken) {
					t.Errorf("publish after being overtaken: %v", err)
				}
				if _, _, err := a.fs.Mkdir(ctx, a.fs.Root(), "x", 0o755, Cred{}); !errors.Is(err, ErrOvertaken) {
					t.Errorf("mkdir after being overtaken: %v", err)
				}
			}
			_ = a.fs.Close(ctx) // it says that it was overtaken
			a.fs = nil
		}
		err := a.open(Options{})
		if maps.Equal(before, want) && err == nil { // nothing was lost
			a.close()
			continue
		}
		if !errors.Is(err, ErrOvertaken) {
			t.Fatalf("open after being overtaken: %v", err)
		}
		lost := a.setAside()
		sameTree(t, "as it was", dump(t, lost), want)
		a.mustOpen(Options{})
		now := dump(t, a.fs)
		res, err := Rescue(ctx, lost, a.fs, &IntoVault{FS: a.fs, Base: "rescued/here"})
		must(t, err)
		if len(res.Unreadable) > 0 {
			t.Errorf("not to be read: %q", res.Unreadable)
		}
		must(t, a.fs.Publish(ctx))
		got := dump(t, a.fs)
		checkRescued(t, round, before, want, now, got)
		must(t, lost.Close(context.Background()))
		a.close()
		if t.Failed() {
			return
		}
	}
}

// checkRescued compares a tree after a rescue: what was there is as it was, and what had changed since before is below
// rescued/here as it was where it was lost.
func checkRescued(t *testing.T, round int, before, want, now, got map[string]string) {
	t.Helper()
	const base = "/rescued/here"
	content := func(s string) string { _, s, _ = strings.Cut(s, ", "); return s }
	had := make(map[string]bool) // contents that files had before: what has only moved with its directory is not lost
	for _, is := range before {
		had[content(is)] = true
	}
	for name, is := range now {
		if got[name] != is {
			t.Errorf("round %d: %s was changed by the rescue: %s, was %s", round, name, got[name], is)
		}
	}
	for name, is := range want {
		there, ok := got[base+name]
		switch {
		case ok && content(there) != content(is):
			t.Errorf("round %d: %s came back as %s, was %s", round, name, there, is)
		case !ok && is != "directory" && !had[content(is)]:
			t.Errorf("round %d: %s did not come back: %s, before %s", round, name, is, before[name])
		}
	}
	for name := range got {
		if strings.HasPrefix(name, base+"/") && want[strings.TrimPrefix(name, base)] == "" {
			t.Errorf("round %d: %s came back, and never was: %s", round, name, fmt.Sprint(got[name]))
		}
	}
}
