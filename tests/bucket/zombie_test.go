package bucket

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// zombie stops the daemon, has another machine take the vault over, and lets the daemon go on: what it has not published is
// refused then, and comes back by a rescue.
func (r *rig) zombie(round int) {
	t := r.t
	t.Helper()
	mine := make(map[string][]byte)
	for i := range 5 {
		name := fmt.Sprintf("zombie%d-%d", round, i)
		mine[name] = bytes.Repeat([]byte(name), 1000*(i+1))
		must(t, os.WriteFile(filepath.Join(r.Point, name), mine[name], 0o644))
	}
	must(t, syscall.Kill(r.PID(), syscall.SIGSTOP))
	other := r.elsewhere()
	must(t, other.Mount("--takeover"))
	theirs := fmt.Sprintf("taken over %d", round)
	must(t, os.WriteFile(filepath.Join(other.Point, theirs), []byte(theirs), 0o644))
	must(t, other.Unmount())
	must(t, syscall.Kill(r.PID(), syscall.SIGCONT))
	for _, verb := range []string{"sync", "unmount"} { // what they say depends on what was published
		res, err := r.Run(verb, r.Point)
		must(t, err)
		if res.Code == 0 && verb == "sync" {
			t.Logf("round %d: all was published", round)
		}
	}
	must(t, r.Discard())
	res, err := r.TryMount()
	must(t, err)
	if res.Code != 0 {
		r.rescue(r.Vault)
		must(t, r.Mount())
	}
	if _, err := os.Stat(filepath.Join(r.Point, theirs)); err != nil {
		t.Errorf("round %d: %v", round, err)
	}
	for name, want := range mine {
		there, err := filepath.Glob(filepath.Join(r.Point, "rescued/*", name))
		must(t, err)
		found := false
		for _, path := range append(there, filepath.Join(r.Point, name)) {
			got, err := os.ReadFile(path)
			found = found || err == nil && bytes.Equal(got, want)
		}
		if !found {
			t.Errorf("round %d: %s did not come back", round, name)
		}
	}
}
