package bucket

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"envfs/tests/command"
)

// keyUse is what tests look at of `envfs key status --json`.
type keyUse struct {
	Newest uint32 `json:"newest"`
	Tree   []struct {
		Epoch   uint32 `json:"epoch"`
		Headers int    `json:"headers"`
	} `json:"tree"`
	Journal []uint32 `json:"journal"`
	Skipped int      `json:"skipped"`
	code    int
}

// keyStatus asks which key epochs are in use. Exit code 3 says that more than the newest are.
func keyStatus(t *testing.T, v *command.Vault) (u keyUse) {
	t.Helper()
	res, err := v.Run(v.Keyed("key", "status", "--json", v.Store)...)
	must(t, err)
	if res.Code != 0 && (res.Code != 3 || !strings.Contains(res.Talk, "key rewrap")) {
		t.Fatalf("key status: %d: %s", res.Code, res.Talk)
	}
	must(t, json.Unmarshal([]byte(res.Out), &u))
	old := slices.ContainsFunc(u.Journal, func(e uint32) bool { return e != u.Newest })
	if old = old || len(u.Tree) > 1; old != (res.Code == 3) {
		t.Errorf("key status: exit code %d with epochs %+v", res.Code, u)
	}
	u.code = res.Code
	return u
}

// inUse checks that key status tells which epoch is the newest, and whether older ones are in use.
func inUse(t *testing.T, v *command.Vault, newest uint32, older bool) {
	t.Helper()
	if u := keyStatus(t, v); u.Newest != newest || older != (u.code == 3) || u.Skipped != 0 {
		t.Errorf("key status: exit code %d, %+v; the newest is %d, older ones in use: %v", u.code, u, newest, older)
	}
}

// addKeyFile adds a slot with that label, for a new key file, which it returns.
func addKeyFile(t *testing.T, v *command.Vault, label string) (path string) {
	t.Helper()
	path = filepath.Join(v.Home, label)
	succeeds(t, v, "", "key", "generate", path)
	succeeds(t, v, "", v.Keyed("key", "add", v.Store, "--new-keyfile", path, "--label", label)...)
	return path
}

// A follower goes on showing what it has when the keys are changed by who writes, says that it must be mounted again, and
// then shows all; also when the slot is gone that it was mounted with, if there is another.
func TestKeysChangedBesideFollower(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	before := fill(t, filepath.Join(r.Point, "before"), 20)
	laptop := addKeyFile(t, r.Vault, "laptop")
	inUse(t, r.Vault, 1, false)
	r.sync()
	follower := r.elsewhere()
	must(t, follower.Mount("--follow"))
	compare(t, filepath.Join(follower.Point, "before"), before)

	for i, change := range [][]string{{"rotate", r.Store}, {"remove", r.Store, "laptop"}, {"rewrap", r.Store}} {
		name := change[0]
		newest := uint32(min(i, 1) + 2)
		succeeds(t, r.Vault, "", r.Keyed(append([]string{"key"}, change...)...)...)
		inUse(t, r.Vault, newest, name != "rewrap")
		inUse(t, follower, newest, name != "rewrap")
		files := fill(t, filepath.Join(r.Point, name), 5)
		r.sync()
		compare(t, filepath.Join(follower.Point, "before"), before) // as it was, or as it is
		tells := func() bool {
			_, err := os.Stat(filepath.Join(follower.Point, name))
			res, serr := follower.Run("status")
			must(t, serr)
			return err == nil || strings.Contains(res.Out, "keys were changed: unmount and mount again")
		}
		within(t, "a follower neither shows what came after key "+name+" nor says what to do", tells)
		must(t, follower.Unmount())
		must(t, follower.Mount("--follow"))
		compare(t, filepath.Join(follower.Point, name), files)
	}
	res, err := follower.Run("key", "test", r.Store, "--keyfile", laptop)
	must(t, err)
	if res.Code != 12 {
		t.Errorf("key test with a key that was removed: %d: %s", res.Code, res.Talk)
	}
	must(t, follower.Unmount())
	must(t, r.Unmount())
	inUse(t, r.Vault, 3, false)
	must(t, r.Check())
}

// within waits until something is so, at the latest half a minute.
func within(t *testing.T, otherwise string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal(otherwise)
		}
	}
}

// The server is killed in the midst of a rewrap, at the n-th of its headers, before it has it or after, or at its root. The
// daemon waits, and finishes when the server is back; or it is killed, too, and the next rewrap finishes. While that lasts
// key status says that older epochs are in use; files can be read and written all the time.
func TestServerKilledInRewrap(t *testing.T) {
	for _, c := range []struct {
		name   string
		which  func(*http.Request) bool
		nth    int64
		done   bool // the server has done it, and nobody knows
		daemon bool // is killed, too
	}{
		{"waits", kinds["header"], 20, false, false},
		{"waits after root", kinds["root"], 1, true, false},
		{"gone on with", kinds["header"], 25, true, true},
		{"gone on with after root", kinds["root"], 1, true, true},
	} {
		t.Run(c.name, func(t *testing.T) { serverKilledInRewrap(t, c.which, c.nth, c.done, c.daemon) })
	}
}

func serverKilledInRewrap(t *testing.T, which func(*http.Request) bool, nth int64, done, daemon bool) {
	r := newRig(t)
	p := r.behind(1)
	must(t, r.Mount())
	all := map[string]map[string][]byte{}
	for i := range 3 {
		name := fmt.Sprint("d", i)
		all[name] = fill(t, filepath.Join(r.Point, name), 20)
	}
	addKeyFile(t, r.Vault, "laptop")
	must(t, r.Remount()) // folds
	succeeds(t, r.Vault, "", r.Keyed("key", "remove", r.Store, "laptop")...)
	all["late"] = fill(t, filepath.Join(r.Point, "late"), 5)
	inUse(t, r.Vault, 2, true)

	var count atomic.Int64
	died := make(chan struct{})
	kill := func(q *http.Request) bool {
		if !which(q) || count.Add(1) != nth {
			return count.Load() >= nth
		}
		r.server.Kill()
		if daemon {
			killDaemons(t)
		}
		close(died)
		return true
	}
	if done {
		p.hooked(hook{after: kill})
	} else {
		p.hooked(hook{before: kill})
	}
	var rewrap command.Result
	var err error
	var rewrapping sync.WaitGroup
	rewrapping.Go(func() { rewrap, err = r.Run(r.Keyed("key", "rewrap", r.Store)...) })
	select {
	case <-died:
	case <-time.After(time.Minute):
		t.Fatal("the rewrap does not come to it")
	}
	if daemon {
		rewrapping.Wait()
		must(t, err)
		if rewrap.Code == 0 {
			t.Errorf("rewrap says that it is done: %s", rewrap.Talk)
		}
		must(t, r.Discard())
	} else {
		all["away"] = fill(t, filepath.Join(r.Point, "away"), 5)
	}
	p.hooked(hook{})
	r.restart()
	if daemon {
		must(t, r.Mount())
		keyStatus(t, r.Vault)
		rewrapping.Go(func() { rewrap, err = r.Run(r.Keyed("key", "rewrap", r.Store)...) })
	}
	rewrapping.Wait()
	must(t, err)
	if rewrap.Code != 0 {
		t.Errorf("rewrap: %d: %s", rewrap.Code, rewrap.Talk)
	}
	inUse(t, r.Vault, 2, false)
	r.endsWith(all)
	inUse(t, r.Vault, 2, false)
}
