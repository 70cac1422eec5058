package bucket

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"envfs/tests/command"
)

// rescued returns the one directory below rescued/ of a mount or of a plain directory.
func rescued(t *testing.T, below string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(below, "rescued", "*"))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("rescued: %q", found)
	}
	return found[0]
}

func (r *rig) rescue(v *command.Vault, flags ...string) command.Result {
	r.t.Helper()
	res, err := v.Run(append([]string{"sync", "--rescue", "--keyfile", filepath.Join(v.Home, "key"), v.Store}, flags...)...)
	must(r.t, err)
	if res.Code != 0 {
		r.t.Fatalf("sync --rescue: %d: %s%s", res.Code, res.Out, res.Talk)
	}
	return res
}

// A machine that was killed before it had published is taken over; what it had then comes back beside what the other has
// made of the same files.
func TestRescue(t *testing.T) {
	for _, plain := range []bool{false, true} {
		r := newRig(t)
		must(t, r.Mount())
		fill(t, filepath.Join(r.Point, "d"), 20)
		r.sync()
		r.server.Kill() // so that nothing more is published
		mine := fill(t, filepath.Join(r.Point, "d"), 25)
		must(t, os.WriteFile(filepath.Join(r.Point, "d/file1"), []byte("mine"), 0o644))
		mine["file1"] = []byte("mine")
		must(t, r.Kill())
		must(t, r.Discard())
		r.restart()

		other := r.elsewhere()
		must(t, other.Mount("--takeover"))
		must(t, os.WriteFile(filepath.Join(other.Point, "d/file1"), []byte("of the other"), 0o644))
		must(t, os.WriteFile(filepath.Join(other.Point, "d/theirs"), []byte("theirs"), 0o644))
		if !plain { // that works beside who writes
			must(t, other.Unmount())
		}

		res, err := r.TryMount()
		must(t, err)
		if res.Code != 15 || !strings.Contains(res.Talk, "--rescue") {
			t.Errorf("mounted after being overtaken: %d: %s", res.Code, res.Talk)
		}
		var below string
		if plain {
			below = t.TempDir()
			t.Log(r.rescue(r.Vault, "--plaintext", below).Talk)
			below = rescued(t, below)
			must(t, other.Unmount())
		} else {
			t.Log(r.rescue(r.Vault).Talk)
		}
		must(t, r.Mount())
		if !plain {
			below = rescued(t, r.Point)
		}
		for _, name := range []string{"file1", "file20", "file24"} { // the others are as they were published
			compare(t, filepath.Join(below, "d"), map[string][]byte{name: mine[name]})
		}
		compare(t, filepath.Join(r.Point, "d"), map[string][]byte{"file1": []byte("of the other"), "theirs": []byte("theirs")})
		must(t, r.Unmount())
		must(t, r.Check())
		if res := r.rescue(r.Vault); !strings.Contains(res.Talk, "Nothing is left") {
			t.Errorf("a second rescue: %s", res.Talk)
		}
	}
}

// A mount that is overtaken while it works becomes read-only, and says so; what it had goes on being read.
func TestOvertakenAlive(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	files := fill(t, filepath.Join(r.Point, "d"), 10)
	r.sync()
	other := r.elsewhere()
	must(t, other.Mount("--takeover"))
	began := time.Now()
	kept := make(map[string][]byte)
	for i := 0; ; i++ {
		name := fmt.Sprint("late", i) // none twice: one that is refused may be empty by then
		err := os.WriteFile(filepath.Join(r.Point, name), []byte(name), 0o644)
		if errors.Is(err, unix.EROFS) {
			break
		}
		must(t, err)
		kept[name] = []byte(name)
		if time.Since(began) > 2*time.Minute {
			t.Fatal("it goes on writing")
		}
		time.Sleep(50 * time.Millisecond) // the pace of a program that saves
	}
	compare(t, filepath.Join(r.Point, "d"), files)
	log, err := r.Log()
	must(t, err)
	if !strings.Contains(log, "this mount is read-only now") {
		t.Errorf("the log does not say so: %s", log)
	}
	res, err := r.Run("unmount", r.Point)
	must(t, err)
	t.Logf("unmount: %d: %s", res.Code, res.Talk)
	must(t, other.Unmount())
	must(t, r.Discard())
	r.rescue(r.Vault)
	must(t, r.Mount())
	compare(t, rescued(t, r.Point), kept)
	must(t, r.Unmount())
}
