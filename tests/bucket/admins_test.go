package bucket

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"envfs/tests/command"
	"envfs/tests/seed"
)

// apart makes the vault of a machine one that the daemons of others are no help for: on this machine root finds them all.
func (r *rig) apart(v *command.Vault, seed uint64) {
	p := newProxy(r.t, r.server.Address, rand.New(rand.NewPCG(seed, 1)))
	v.Store = strings.Replace(v.Store, r.server.Address, p.addr, 1)
}

// slots returns the labels of a vault's slots, in order.
func slots(t *testing.T, v *command.Vault) (labels []string) {
	t.Helper()
	res, err := v.Run("key", "list", "--json", v.Store)
	must(t, err)
	if res.Code != 0 {
		t.Fatalf("key list: %d: %s", res.Code, res.Talk)
	}
	for line := range strings.Lines(res.Out) {
		var slot struct {
			Label string `json:"label"`
		}
		must(t, json.Unmarshal([]byte(line), &slot))
		labels = append(labels, slot.Label)
	}
	slices.Sort(labels)
	return labels
}

// While one machine has the vault mounted, another is refused each change of keys: it hears who writes, and nothing is
// changed. Two who ask the daemon at the same moment are served one after the other, or the second hears that the keys have
// changed meanwhile.
func TestKeysOfAMountedVault(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	files := fill(t, filepath.Join(r.Point, "d"), 10)
	addKeyFile(t, r.Vault, "laptop")
	r.sync()
	other := r.elsewhere()
	r.apart(other, 1)
	key := filepath.Join(other.Home, "new")
	succeeds(t, other, "", "key", "generate", key)
	before := slots(t, r.Vault)
	writing := regexp.MustCompile(`changed meanwhile|is being written by \w+@\S+ since .*; --follow reads along, --takeover cuts that writer off`)
	for _, verb := range [][]string{{"add", other.Store, "--new-keyfile", key}, {"remove", other.Store, "laptop"}, {"rotate", other.Store},
		{"replace", other.Store, "laptop", "--new-keyfile", key}, {"rewrap", other.Store}} {
		res, err := other.Run(other.Keyed(append([]string{"key"}, verb...)...)...)
		must(t, err)
		if res.Code != 11 || !writing.MatchString(res.Talk) {
			t.Errorf("key %s beside a writer: %d: %s", verb[0], res.Code, res.Talk)
		}
	}
	if got := slots(t, other); !slices.Equal(got, before) {
		t.Errorf("slots %q, were %q", got, before)
	}

	added := atOnce(t, []*command.Vault{r.Vault, r.Vault}, func(i int) []string {
		path := filepath.Join(r.Home, fmt.Sprint("both", i))
		succeeds(t, r.Vault, "", "key", "generate", path)
		return r.Keyed("key", "add", r.Store, "--new-keyfile", path, "--label", fmt.Sprint("both", i))
	})
	want := before
	for i, res := range added {
		switch {
		case res.Code == 0:
			want = append(want, fmt.Sprint("both", i))
		case !strings.Contains(res.Talk, "changed meanwhile"):
			t.Errorf("key add at the same moment: %d: %s", res.Code, res.Talk)
		}
	}
	slices.Sort(want)
	if got := slots(t, other); len(got) == len(before) || !slices.Equal(got, want) {
		t.Errorf("slots %q, want %q", got, want)
	}
	compare(t, filepath.Join(r.Point, "d"), files)
	must(t, r.Unmount())
	succeeds(t, other, "", other.Keyed("key", "remove", other.Store, "laptop")...)
	must(t, r.Mount())
	compare(t, filepath.Join(r.Point, "d"), files)
	must(t, r.Unmount())
	must(t, r.Check())
}

// atOnce runs a command for each of the machines at the same moment.
func atOnce(t *testing.T, on []*command.Vault, args func(i int) []string) []command.Result {
	t.Helper()
	results := make([]command.Result, len(on))
	all := make([][]string, len(on))
	for i := range on {
		all[i] = args(i)
	}
	var running sync.WaitGroup
	for i, v := range on {
		running.Go(func() {
			res, err := v.Run(all[i]...)
			if err != nil {
				t.Error(err)
			}
			results[i] = res
		})
	}
	running.Wait()
	return results
}

// keyRounds is how often TestTwoAdministrators has both at work.
const keyRounds = 30

// Two machines change the keys of a vault that nobody has mounted, at the same moment, again and again: one history comes of
// it. Each slot that was added to somebody's knowledge is there and opens until it is removed, each that was refused is not
// there, and who was removed does not get in.
func TestTwoAdministrators(t *testing.T) {
	seed := seed.Of(t, "bucket.seed", *stormSeed)
	rng := rand.New(rand.NewPCG(seed, 3))
	r := newRig(t)
	must(t, r.Mount())
	files := fill(t, filepath.Join(r.Point, "d"), 10)
	must(t, r.Unmount())
	other := r.elsewhere()
	r.apart(other, seed)
	machines := []*command.Vault{r.Vault, other}
	there := map[string]string{"": r.Keyed()[1]} // key files by label
	gone := make(map[string]string)
	acknowledged := make(map[string]int)
	for round := range keyRounds {
		var labels [2]string
		var verbs [2]string
		results := atOnce(t, machines, func(i int) []string {
			v := machines[i]
			removable := slices.DeleteFunc(slices.Sorted(maps.Keys(there)), func(l string) bool { return l == "" || l == labels[0] && verbs[0] == "remove" })
			switch n := rng.IntN(6); {
			case n == 0:
				verbs[i] = "rotate"
				return v.Keyed("key", "rotate", v.Store)
			case n <= 2 && len(removable) > 0, len(there) > 20:
				verbs[i], labels[i] = "remove", removable[rng.IntN(len(removable))]
				return v.Keyed("key", "remove", v.Store, labels[i])
			}
			verbs[i], labels[i] = "add", fmt.Sprintf("round%d-%d", round, i)
			path := filepath.Join(v.Home, labels[i])
			succeeds(t, v, "", "key", "generate", path)
			return v.Keyed("key", "add", v.Store, "--new-keyfile", path, "--label", labels[i])
		})
		done := 0
		for i, res := range results {
			acknowledged[fmt.Sprintf("%s: %d", verbs[i], res.Code)]++
			if res.Code != 0 {
				if !clearlyRefused.MatchString(res.Talk) || res.Code != 11 && !strings.Contains(res.Talk, "changed meanwhile") {
					t.Errorf("round %d: key %s: %d: %s", round, verbs[i], res.Code, res.Talk)
				}
				continue
			}
			done++
			switch verbs[i] {
			case "add":
				there[labels[i]] = filepath.Join(machines[i].Home, labels[i])
			case "remove":
				gone[labels[i]] = there[labels[i]]
				delete(there, labels[i])
			}
		}
		if done == 0 {
			t.Errorf("round %d: neither has done anything: %q, %q", round, results[0].Talk, results[1].Talk)
		}
		if got, want := slots(t, machines[round%2]), slices.Sorted(maps.Keys(there)); !slices.Equal(got, want) {
			t.Fatalf("round %d: slots %q, want %q", round, got, want)
		}
	}
	t.Log(acknowledged)
	for _, path := range there {
		succeeds(t, r.Vault, "", "key", "test", r.Store, "--keyfile", path)
	}
	for label, path := range gone {
		if res, err := r.Run("key", "test", r.Store, "--keyfile", path); err != nil || res.Code != 12 {
			t.Errorf("slot %s, which was removed: key test: %d, %v: %s", label, res.Code, err, res.Talk)
		}
	}
	for _, v := range machines {
		must(t, v.Mount())
		compare(t, filepath.Join(v.Point, "d"), files)
		must(t, v.Unmount())
	}
	succeeds(t, r.Vault, "", r.Keyed("key", "rewrap", r.Store)...)
	if u := keyStatus(t, other); u.code != 0 {
		t.Errorf("key status after rewrap: %+v", u)
	}
	must(t, r.Check())
}

// clearlyRefused is what one hears who was not first.
var clearlyRefused = regexp.MustCompile(`changed meanwhile|is being written by \w+@|another machine may be writing this vault: .*try again`)
