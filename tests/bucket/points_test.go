package bucket

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"envfs/tests/seed"
)

// point is a moment of publishing, folding or opening: when the server gets the n-th request of a kind, or has done it and
// nobody knows yet.
type point struct {
	kind string
	nth  int64
	done bool
}

// kinds are the requests that change the bucket, by the order in which they have to be done.
var kinds = map[string]func(r *http.Request) bool{
	"extent":  putOf("files/", ".x"),
	"segment": putOf("journal/", ""),
	"header":  putOf("files/", ".h"),
	"index":   putOf("dirs/", ""),
	"record":  putOf("folds/", ""),
	"root":    conditional,
	"copy":    putOf("roots/", ""),
	"delete":  deletion,
}

// putOf matches the PUTs of objects by what their names begin with and hold.
func putOf(prefix, holds string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/team/vault/"+prefix) && strings.Contains(r.URL.Path, holds)
	}
}

// killDaemons kills the daemons of the command that these tests run, and returns when they are gone.
func killDaemons(t *testing.T) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Error(err)
	}
	for _, dir := range dirs {
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		args, argErr := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || argErr != nil || exe != binary || !strings.HasPrefix(string(args[strings.IndexByte(string(args), 0)+1:]), "daemon\x00") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Error(err)
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
			t.Error(err)
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000); err != nil {
			t.Error(err)
		}
		_ = unix.Close(fd)
	}
}

// The daemon is killed at each point of publishing, folding and opening: what was acknowledged is there with the next
// mount, and for others once it is published.
func TestKilledAtPoint(t *testing.T) {
	seed := seed.Of(t, "bucket.seed", *stormSeed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t)
	p := r.behind(seed)
	must(t, r.Mount())
	s := &sailor{dir: filepath.Join(r.Point, "0"), rng: rand.New(rand.NewPCG(seed, 2)), files: make(map[string][]byte)}
	must(t, os.Mkdir(s.dir, 0o755))
	var points []point
	for kind := range kinds {
		for _, done := range []bool{false, true} {
			points = append(points, point{kind, 1, done}, point{kind, 2 + rng.Int64N(3), done})
		}
	}
	rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	for round, at := range points {
		name := fmt.Sprintf("round %d: request %d of kind %s, done %v", round, at.nth, at.kind, at.done)
		var fired atomic.Bool
		var count atomic.Int64
		gone := make(chan struct{})
		kill := func(q *http.Request) bool {
			if !kinds[at.kind](q) || fired.Load() || count.Add(1) != at.nth {
				return fired.Load() // what was on its way then is lost, too
			}
			fired.Store(true)
			killDaemons(t)
			close(gone)
			return true
		}
		if at.done {
			p.hooked(hook{after: kill})
		} else {
			p.hooked(hook{before: kill})
		}
		for tries := 0; !fired.Load() && !t.Failed(); tries++ {
			r.rush(s, round, &fired)
			if tries == 200 {
				t.Errorf("%s: it never comes", name)
			}
		}
		if t.Failed() {
			t.Fatal(name)
		}
		<-gone // the request at which it is killed may be one that nobody waits for
		p.hooked(hook{})
		must(t, r.Discard())
		must(t, r.Mount())
		s.compare(t, s.dir)
		r.sync()
		if round%4 == 3 || t.Failed() {
			other := r.elsewhere()
			must(t, other.Mount("--read-only"))
			s.compare(t, filepath.Join(other.Point, "0"))
			must(t, other.Unmount())
			must(t, r.Check())
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
	must(t, r.Unmount())
	must(t, r.Check())
}

// rush works, publishes, folds and opens, until the daemon is killed.
func (r *rig) rush(s *sailor, round int, killed *atomic.Bool) {
	for range 10 {
		if err := s.step(round); err != nil {
			if !killed.Load() {
				r.t.Errorf("round %d: %v", round, err)
			}
			return
		}
	}
	for _, do := range []func() (int, string, error){
		func() (int, string, error) { res, err := r.Run("sync", r.Point); return res.Code, res.Talk, err },
		func() (int, string, error) { res, err := r.TryUnmount(); return res.Code, res.Talk, err },
		func() (int, string, error) { res, err := r.TryMount(); return res.Code, res.Talk, err },
	} {
		code, talk, err := do()
		must(r.t, err)
		if killed.Load() {
			return
		}
		if code != 0 {
			r.t.Errorf("round %d: %d: %s", round, code, talk)
			return
		}
	}
}
