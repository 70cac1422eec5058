package tamper

import (
	"bytes"
	"os/exec"
	"testing"
)

// TestNoNonceTwice runs workloads in builds that remember every nonce under every key, and panic when one comes twice.
// That they would is tested in blockcrypt.
func TestNoNonceTwice(t *testing.T) {
	for _, args := range [][]string{
		{"envfs/fs", "-run", "."},
		{"envfs/tests/tamper", "-run", "^TestWorkload$"},
	} {
		cmd := exec.Command("go", append([]string{"test", "-count=1", "-timeout", "30m", "-tags", "noncecheck"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("sealed twice")) {
			t.Errorf("%s: %v\n%s", args[0], err, out)
		}
	}
}

// TestWorkload makes the vault of all these tests: every kind of object, of several mounts, keys and folds, and replays
// of its journals.
func TestWorkload(t *testing.T) {
	f := newFixture(t)
	for _, s := range []*state{f.begun, f.torn, f.rotated} {
		s.restore(t, f.Store)
		m := f.Mount(t, options())
		work(t, newRand(6), m.Dir, 300)
		m.Unmount(t)
	}
}
