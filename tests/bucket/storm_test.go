package bucket

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"envfs/tests/seed"
)

var (
	stormSeed   = flag.Uint64("bucket.seed", 0, "seed of storms; 0: another one each time")
	stormRounds = flag.Int("bucket.rounds", 30, "how many rounds of a storm")
)

// sailor works in a directory of its own, and knows what it was told is done.
type sailor struct {
	dir   string
	rng   *rand.Rand
	files map[string][]byte // by name; what was reported done
	maybe map[string][]byte // what one operation that was not reported done would have made of a name; nil: removed
}

// step does one operation. Its error means that the mount is gone.
func (s *sailor) step(round int) error {
	name := fmt.Sprint(s.rng.IntN(12))
	path := filepath.Join(s.dir, name)
	switch n := s.rng.IntN(10); {
	case n < 6:
		data := bytes.Repeat([]byte(fmt.Sprintf("%d %d,", round, s.rng.Uint32())), 1+s.rng.IntN(1<<s.rng.IntN(15)))
		s.maybe = map[string][]byte{name: data}
		// Written aside and renamed, so that each name has its old or its new content, whenever the daemon is killed.
		if err := os.WriteFile(path+".new", data, 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
		s.files[name] = data
	case n < 8:
		s.maybe = map[string][]byte{name: nil}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(s.files, name)
	default:
		other := fmt.Sprint(s.rng.IntN(12))
		data, ok := s.files[name]
		if !ok || other == name {
			return nil
		}
		s.maybe = map[string][]byte{name: nil, other: data}
		if err := os.Rename(path, filepath.Join(s.dir, other)); err != nil {
			return err
		}
		delete(s.files, name)
		s.files[other] = data
	}
	s.maybe = nil
	return nil
}

// compare looks for what was reported done, and takes what else may have been done for done if it was.
func (s *sailor) compare(t *testing.T, dir string) {
	t.Helper()
	found := make(map[string][]byte)
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".new") {
			continue
		}
		if found[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
	want := s.files
	if s.maybe != nil && !same(found, want) {
		want = make(map[string][]byte)
		for name, data := range s.files {
			want[name] = data
		}
		for name, data := range s.maybe {
			if want[name] = data; data == nil {
				delete(want, name)
			}
		}
	}
	for name, data := range want {
		if !bytes.Equal(found[name], data) {
			t.Errorf("%s: %s has %d bytes (%.20q), want %d (%.20q)", dir, name, len(found[name]), found[name], len(data), data)
		}
	}
	for name := range found {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s is there", dir, name)
		}
	}
	s.files, s.maybe = want, nil
}

func same(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name, data := range a {
		if other, ok := b[name]; !ok || !bytes.Equal(data, other) {
			return false
		}
	}
	return true
}

// refusals are which requests a user may be refused for a while, as a policy was changed or credentials have expired.
var refusals = []func(*http.Request) bool{
	func(*http.Request) bool { return true },
	func(r *http.Request) bool { return r.Method == http.MethodPut },
	conditional,
	func(r *http.Request) bool { return r.Method == http.MethodGet },
	deletion,
}

// Programs work while the network loses requests and replies, the server and the daemon are killed, alone and together, and
// both come back: what was reported done is there, here at once and in the bucket after a sync, and nothing is damaged.
func TestStorm(t *testing.T) {
	seed := seed.Of(t, "bucket.seed", *stormSeed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t)
	p := r.behind(seed)
	// The vault's address is another one now, as if it had been moved.
	must(t, r.Mount())
	sailors := make([]*sailor, 3)
	for i := range sailors {
		sailors[i] = &sailor{dir: filepath.Join(r.Point, fmt.Sprint(i)), rng: rand.New(rand.NewPCG(seed, uint64(i+2))), files: make(map[string][]byte)}
		must(t, os.Mkdir(sailors[i].dir, 0o755))
	}
	watched := &pair{t: t}
	must(t, watched.write(r.Point))
	r.sync()
	watched.watch(r.elsewhere())
	long := *stormRounds > 100 // then there is time for what takes long
	for round := range *stormRounds {
		p.faults([]float64{0, 0.05, 0.2}[rng.IntN(3)])
		end := []string{"daemon", "server", "both", "sync", "unmount"}[rng.IntN(5)]
		steps := int64(20 + rng.IntN(300))
		var over atomic.Bool
		var done atomic.Int64
		reached := make(chan struct{})
		var once sync.Once
		var work sync.WaitGroup
		latency := time.Duration(0)
		if long && rng.IntN(8) == 0 {
			latency = []time.Duration{20, 200}[rng.IntN(2)] * time.Millisecond
		}
		p.hard(long, latency)
		if rng.IntN(3) == 0 {
			which, end := refusals[rng.IntN(len(refusals))], time.Now().Add(time.Duration(rng.IntN(3000))*time.Millisecond)
			p.deny(func(r *http.Request) bool { return which(r) && time.Now().Before(end) })
		}
		work.Go(func() {
			for !over.Load() {
				if err := watched.write(r.Point); err != nil {
					if !over.Load() {
						t.Errorf("round %d: %v", round, err)
					}
					return
				}
				time.Sleep(20 * time.Millisecond) // the pace of a program that saves
			}
		})
		for _, s := range sailors {
			work.Go(func() {
				for !over.Load() {
					if err := s.step(round); err != nil {
						if !over.Load() {
							t.Errorf("round %d: %v", round, err)
						}
						break
					}
					if done.Add(1) >= steps {
						once.Do(func() { close(reached) })
					}
				}
				once.Do(func() { close(reached) })
			})
		}
		if rng.IntN(4) == 0 {
			r.loseCache(rng.IntN(2) == 0)
		}
		<-reached
		if end == "server" || end == "both" {
			r.server.Kill()
		}
		if end == "daemon" || end == "both" {
			over.Store(true)
			must(t, r.Kill())
			work.Wait()
			must(t, r.Discard()) // the dead mount
		}
		if end == "server" || end == "both" {
			r.restart()
		}
		over.Store(true)
		work.Wait()
		p.hard(false, 0)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		p.deny(nil)
		p.admit(true)
		switch end {
		case "daemon", "both":
			p.faults(0.02) // it is given up after five seconds that nobody answers
			must(t, r.Mount())
		case "unmount":
			must(t, r.Unmount())
			must(t, r.Mount())
		}
		p.admit(false)
		if rng.IntN(8) == 0 {
			r.loseCache(true)
			drop(t)
		}
		for _, s := range sailors {
			s.compare(t, s.dir)
		}
		r.sync()
		p.faults(0)
		if long && round%10 == 7 {
			r.zombie(round)
		}
		if round%5 == 4 {
			other := r.elsewhere()
			must(t, other.Mount("--read-only"))
			for i, s := range sailors {
				s.compare(t, filepath.Join(other.Point, fmt.Sprint(i)))
			}
			must(t, other.Unmount())
			must(t, r.Check())
		}
		if t.Failed() {
			t.Fatalf("round %d, ended by %s", round, end)
		}
	}
	watched.end()
	must(t, r.Unmount())
	must(t, r.Check())
	t.Logf("the network: %v; a follower has read %d times, up to %d of %d", p.counts, watched.reads.Load(), watched.seen.Load(), watched.next)
}
