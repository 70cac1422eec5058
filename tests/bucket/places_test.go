package bucket

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"envfs/tests/command"
)

// answer runs a verb that must succeed, and decodes what it says in JSON.
func answer[T any](t *testing.T, v *command.Vault, args ...string) (a T) {
	t.Helper()
	res, err := v.Run(args...)
	must(t, err)
	if res.Code != 0 {
		t.Fatalf("%q: %d: %s", args, res.Code, res.Talk)
	}
	must(t, json.Unmarshal([]byte(res.Out), &a))
	return a
}

// status returns what `envfs status` says about the vault's mount.
func status[T any](t *testing.T, v *command.Vault) T {
	t.Helper()
	a, err := statusOf[T](v)
	must(t, err)
	return a
}

// statusOf is status with an error. It looks for the vault's mount: there may be others on this machine.
func statusOf[T any](v *command.Vault) (a T, _ error) {
	res, err := v.Run("status", "--json")
	if err != nil {
		return a, err
	}
	for line := range strings.Lines(res.Out) {
		var at struct {
			Mountpoint string `json:"mountpoint"`
		}
		if err := json.Unmarshal([]byte(line), &at); err != nil {
			return a, fmt.Errorf("status: %w", err)
		}
		if at.Mountpoint == v.Point {
			return a, json.Unmarshal([]byte(line), &a)
		}
	}
	return a, fmt.Errorf("status says nothing about %s: %s%s", v.Point, res.Out, res.Talk)
}

type placed struct {
	StateDir       string `json:"state_dir"`
	WaitingBytes   int64  `json:"waiting_bytes"`
	WaitingObjects int    `json:"waiting_objects"`
}

// Work waits where --state-dir says, and nothing of it lies elsewhere; mount, status and info say where. The cache goes
// where --cache-dir says and may be deleted.
func TestPlaces(t *testing.T) {
	r := newRig(t)
	states, caches := filepath.Join(r.Home, "work waits"), filepath.Join(r.Home, "fetched")
	places := []string{"--state-dir", states, "--cache-dir", caches}
	must(t, r.Mount())
	must(t, r.Unmount())
	must(t, os.RemoveAll(filepath.Join(r.Home, "state")))
	must(t, os.RemoveAll(filepath.Join(r.Home, "cache")))

	res, err := r.TryMount(places...)
	must(t, err)
	if res.Code != 0 || !strings.Contains(res.Talk, "waits in "+states) {
		t.Fatalf("mount: %d: %s", res.Code, res.Talk)
	}
	files := fill(t, filepath.Join(r.Point, "d"), 20)
	r.sync()
	r.server.Kill() // so that nothing more is published
	fill(t, filepath.Join(r.Point, "late"), 20)
	st := status[placed](t, r.Vault)
	if !strings.HasPrefix(st.StateDir, states+"/") {
		t.Errorf("status says that work waits in %q", st.StateDir)
	}
	must(t, r.Kill())
	must(t, r.Discard())
	r.restart()
	if info := answer[placed](t, r.Vault, append([]string{"info", "--json", r.Store}, places...)...); info.StateDir != st.StateDir || info.WaitingObjects == 0 || info.WaitingBytes < 10_000 {
		t.Errorf("info: %+v; status said %s", info, st.StateDir)
	}
	if info := answer[placed](t, r.Vault, "info", "--json", r.Store); info.WaitingObjects != 0 {
		t.Errorf("info about another place: %+v", info)
	}
	for _, name := range []string{"state", "cache"} {
		if _, err := os.Stat(filepath.Join(r.Home, name)); err == nil {
			t.Errorf("%s was made although another place was named", name)
		}
	}
	// What waits elsewhere is another writer's: without it this would be a takeover.
	if res, err := r.TryMount(); err != nil || res.Code != 11 {
		t.Errorf("mounted without what waits: %d, %v: %s", res.Code, err, res.Talk)
	}
	must(t, r.Mount(places...))
	compare(t, filepath.Join(r.Point, "d"), files)
	lose(t, caches)
	must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
	compare(t, filepath.Join(r.Point, "d"), files)
	must(t, r.Unmount())
	res, err = r.Run(r.Keyed(append([]string{"ls", r.Store, "late"}, places...)...)...)
	must(t, err)
	if res.Code != 0 || strings.Count(res.Out, "\n") != 20 {
		t.Errorf("ls: %d: %s%s", res.Code, res.Out, res.Talk)
	}
	if tag, err := os.ReadFile(filepath.Join(caches, "CACHEDIR.TAG")); err != nil || !strings.HasPrefix(string(tag), "Signature: 8a477f597d28d172789f06886806bc55") {
		t.Errorf("the cache is not marked as one: %q, %v", tag, err)
	}
}

// A state directory that would go with a cache is refused, so is none at all; one in memory is pointed out.
func TestPlacesRefused(t *testing.T) {
	r := newRig(t)
	tagged := filepath.Join(r.Home, "tagged")
	must(t, os.Mkdir(tagged, 0o755))
	must(t, os.WriteFile(filepath.Join(tagged, "CACHEDIR.TAG"), []byte("Signature: 8a477f597d28d172789f06886806bc55\n"), 0o644))
	link := filepath.Join(r.Home, "link")
	must(t, os.Symlink(tagged, link))
	own := filepath.Join(r.Home, "own")
	for _, flags := range [][]string{
		{"--state-dir", "/var/cache/envfs/state"}, {"--state-dir", filepath.Join(r.Home, ".cache", "x")},
		{"--state-dir", filepath.Join(tagged, "x", "y")}, {"--state-dir", filepath.Join(link, "x")},
		{"--cache-dir", own, "--state-dir", own}, {"--cache-dir", own, "--state-dir", filepath.Join(own, "x")},
	} {
		res, err := r.TryMount(flags...)
		must(t, err)
		if res.Code != 1 || !strings.Contains(res.Talk, "cache directory") || !strings.Contains(res.Talk, "--state-dir") {
			t.Errorf("mount %q: %d: %s", flags, res.Code, res.Talk)
		}
	}

	homeless := exec.Command(binary, "mount", r.Store, r.Point)
	homeless.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	homeless.Env = append([]string{"PATH=" + os.Getenv("PATH")}, r.Extra...)
	out, err := homeless.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--state-dir") {
		t.Errorf("mount without a home: %v: %s", err, out)
	}

	memory, err := os.MkdirTemp("/dev/shm", "envfs")
	must(t, err)
	defer os.RemoveAll(memory)
	res, err := r.TryMount("--state-dir", memory)
	must(t, err)
	if res.Code != 0 || !strings.Contains(res.Talk, "tmpfs") {
		t.Errorf("mount with the state in memory: %d: %s", res.Code, res.Talk)
	}
	must(t, r.Unmount())
}
