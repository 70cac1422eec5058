package bucket

import (
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"envfs/tests/command"
	"envfs/tests/seed"
)

// behind makes the rig's vault one that is reached through a proxy.
func (r *rig) behind(seed uint64) *proxy {
	p := newProxy(r.t, r.server.Address, rand.New(rand.NewPCG(seed, 1)))
	r.Store = strings.Replace(r.Store, r.server.Address, p.addr, 1)
	return p
}

// signIn writes the credentials that a vault's user has.
func signIn(t *testing.T, v *command.Vault, access, secret string) {
	t.Helper()
	at := filepath.Join(v.Home, ".aws")
	must(t, os.MkdirAll(at, 0o700))
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", access, secret)
	must(t, os.WriteFile(filepath.Join(at, "new"), []byte(text), 0o600))
	must(t, os.Rename(filepath.Join(at, "new"), filepath.Join(at, "credentials")))
}

// Another policy, and another secret key, are waited for like a bucket that is away: status and log tell why, work and
// reading go on, and all is published once the server lets the mount in again.
func TestRefusedForAWhile(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	policy := r.policy("Who writes")
	access, secret, err := r.server.NewUser(ctx, []byte(policy))
	must(t, err)
	v := r.elsewhere()
	v.Extra = []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}
	signIn(t, v, access, secret)
	must(t, v.Mount())
	all := map[string]map[string][]byte{"first": fill(t, filepath.Join(v.Point, "first"), 10)}
	succeeds(t, v, "", "sync", v.Point)
	for _, c := range []struct {
		name, cause string
		take, give  func()
	}{
		{"policy", "the server refuses access",
			func() { must(t, r.server.SetUser(ctx, access, secret, []byte(r.policy("Who reads")))) },
			func() { must(t, r.server.SetUser(ctx, access, secret, []byte(policy))) }},
		{"secret", "the secret key is wrong",
			func() {
				secret = crand.Text()
				must(t, r.server.SetUser(ctx, access, secret, []byte(policy)))
			},
			func() { signIn(t, v, access, secret) }},
	} {
		c.take()
		all[c.name] = fill(t, filepath.Join(v.Point, c.name), 10)
		until(t, v, c.name, func(st *shown) bool { return st.Bucket.Away && st.Bucket.Cause == c.cause && st.ToPublish > 0 })
		res, err := v.Run("status")
		must(t, err)
		if !strings.Contains(res.Out, "("+c.cause+")") {
			t.Errorf("status: %s", res.Out)
		}
		for name, files := range all {
			compare(t, filepath.Join(v.Point, name), files)
		}
		c.give()
		succeeds(t, v, "", "sync", v.Point)
		until(t, v, c.name, func(st *shown) bool { return !st.Bucket.Away && st.ToPublish == 0 })
	}
	log, err := v.Log()
	must(t, err)
	if strings.Count(log, "the bucket is away") != 2 || strings.Count(log, "the bucket is back") != 2 || !strings.Contains(log, "check the policy of this user") {
		t.Errorf("each refusal is to be told once, with what to do: %s", log)
	}
	must(t, v.Unmount())
	must(t, v.Check())
	other := r.elsewhere()
	must(t, other.Mount("--read-only"))
	for name, files := range all {
		compare(t, filepath.Join(other.Point, name), files)
	}
	must(t, other.Unmount())
}

// Whatever a fold is refused, it waits and goes on: nothing stops, nothing is lost.
func TestFoldRefused(t *testing.T) {
	seed := seed.Of(t, "bucket.seed", *stormSeed)
	r := newRig(t)
	p := r.behind(seed)
	for name, which := range map[string]func(*http.Request) bool{
		"root":   conditional,
		"put":    func(r *http.Request) bool { return r.Method == http.MethodPut && !conditional(r) },
		"get":    func(r *http.Request) bool { return r.Method == http.MethodGet },
		"delete": deletion,
	} {
		must(t, r.Mount())
		files := fill(t, filepath.Join(r.Point, name), 20)
		left := 4
		p.deny(func(r *http.Request) bool {
			if left == 0 || !which(r) {
				return false
			}
			left--
			return true
		})
		before := p.denied()
		must(t, r.Unmount()) // which folds
		p.deny(nil)
		if n := p.denied() - before; n == 0 && name != "get" && name != "delete" { // these a fold may do without
			t.Errorf("%s: nothing was refused", name)
		}
		must(t, r.Check())
		must(t, r.Mount())
		compare(t, filepath.Join(r.Point, name), files)
		if st, err := r.Status(); err != nil || st.Stopped != "" {
			t.Errorf("%s: %v, stopped by %q", name, err, st.Stopped)
		}
		must(t, r.Unmount())
	}
}
