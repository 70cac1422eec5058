package copies

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/tests/seed"
)

var (
	seedFlag = flag.Uint64("copies.seed", 0, "seed of what is done; 0: another one each time")
	tornFlag = flag.Int("copies.torn", 150, "how many torn copies, and torn forks, are opened")
	onlyFlag = flag.Int("copies.only", -1, "open only this one of them; -1: all")
)

// newSeed returns the seed of a test, and tells it.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	return seed.Of(t, "copies.seed", *seedFlag)
}

// seed makes all that is random on the bench, names and keys too, the same each time.
func (b *bench) seed(seed, part uint64) {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	binary.LittleEndian.PutUint64(s[8:], part)
	b.rand = rand.NewChaCha8(s)
}

// TestTornCopies opens copies of which something is missing, cut off or older than the rest. What failed once is in
// older_test.go, as the film of a seed changes with the code.
func TestTornCopies(t *testing.T) {
	seed := newSeed(t)
	b := newBench(t)
	b.seed(seed, 0)
	fm := b.film(rand.New(rand.NewPCG(seed, 0)))
	counts := make(map[outcome]int)
	for _, i := range upTo(*tornFlag) {
		b.tornRun(t, seed, i, fm.end, func(b *bench, path string, rnd *rand.Rand) *torn {
			c := fm.tear(rnd)
			b.t.Log(c.how)
			store(b.t, path, c.objects)
			return c
		}, func(b *bench, path string, c *torn, rnd *rand.Rand) { counts[b.openTorn(path, c, fm, rnd)]++ })
	}
	t.Logf("%v", counts)
	if *tornFlag >= 100 && *onlyFlag < 0 && (counts[whole] < 10 || counts[accepted] < 10) {
		t.Error("too little was tried")
	}
}

func upTo(n int) []int {
	if *onlyFlag >= 0 {
		return []int{*onlyFlag}
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// tornRun makes a copy and has it opened, with the bench's clock at a time; of failures it keeps the copy.
func (b *bench) tornRun(t *testing.T, seed uint64, i int, at time.Time,
	tear func(*bench, string, *rand.Rand) *torn, open func(*bench, string, *torn, *rand.Rand)) {
	t.Run(fmt.Sprint(i), func(t *testing.T) {
		b := &bench{t: t, clock: newClock(), keys: b.keys}
		b.clock.now = at
		b.seed(seed, uint64(i)+1)
		rnd := rand.New(rand.NewPCG(seed, uint64(i)+1))
		path := filepath.Join(b.dir(), "vault")
		c := tear(b, path, rnd)
		defer func() {
			if t.Failed() {
				kept, err := os.MkdirTemp("", "envfs-torn-")
				must(t, err)
				store(t, kept, c.objects)
				t.Logf("the copy is kept in %s", kept)
			}
		}()
		open(b, path, c, rnd)
	})
}

// store makes a directory hold objects.
func store(t testing.TB, path string, objects map[string]string) {
	t.Helper()
	for name, data := range objects {
		p := filepath.Join(path, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o700))
		must(t, os.WriteFile(p, []byte(data), 0o600))
	}
}

// outcome is what became of a torn copy.
type outcome string

const (
	whole    outcome = "opened for writing at once"
	accepted outcome = "gone on from an older moment"
	none     outcome = "no moment complete"
	keyless  outcome = "root's key file missing"
	rekeyed  outcome = "newer roots under newer keys"
)

// openTorn checks what a copy shows, and goes on from it.
func (b *bench) openTorn(path string, c *torn, fm *film, rnd *rand.Rand) outcome {
	t := b.t
	t.Helper()
	before := objects(t, path)
	m, err := b.open(path, fs.Options{ReadOnly: true}, fm.history)
	if p, perr := blockcrypt.ParseRootPrefix([]byte(c.objects["root"])); perr == nil && c.objects[p.KeyFile.Name] == "" {
		b.openKeyless(path, err, c, fm)
		return keyless
	}
	if err != nil {
		t.Fatalf("for reading: %v", err)
	}
	said := m.f.Status().Older
	o := machine("alpha")
	o.Takeover = true // an older moment may be of another machine's
	if strings.Contains(said, "no moment is complete") {
		m.kill()
		b.refused(path, o, fs.ErrIncomplete)
		if !c.lossy {
			t.Fatal("no moment is complete, but nothing was lost")
		}
		return none
	}
	read := m.isMoment("for reading")
	m.kill()
	keeps(t, path, before)
	b.checkSaid(c, fm, read, said)

	became := whole
	m, err = b.open(path, o, fm.history)
	switch {
	case err == nil && said != "":
		t.Fatalf("opened for writing although %s", said)
	case err == nil:
	case errors.Is(err, fs.ErrIncomplete) && strings.Contains(err.Error(), "in the place of root"):
		keeps(t, path, before)
		b.putInPlace(path, err, c, fm)
		return rekeyed
	case errors.Is(err, fs.ErrIncomplete) && said != "":
		keeps(t, path, before)
		o.AcceptOlder = true
		if m, err = b.open(path, o, fm.history); err != nil {
			t.Fatalf("accepted: %v", err)
		}
		became = accepted
	default:
		t.Fatalf("for writing: %v; for reading it said %q", err, said)
	}
	if at := m.isMoment("for writing"); at != read {
		t.Fatalf("moment %d for writing, %d for reading", at, read)
	}
	m.history = m.from()
	if rnd.IntN(3) == 0 { // before anything is folded
		m.write("/torn", pattern(100, "torn"))
		m.kill()
		b.bringLate(path, c, fm, m.history)
		return became
	}
	m.work("torn")
	m.fold()
	_, _, err = m.f.Sweep(ctx)
	must(t, err)
	m.work("torn again")
	m.close()
	b.quiet(path, m.history)
	m = b.mustOpen(path, machine("alpha"), m.history)
	res, err := m.f.Check(ctx, fs.CheckOptions{}, func(fd fs.Finding) { t.Errorf("check: %+v", fd) })
	if err != nil || res.Damaged > 0 {
		t.Errorf("check: %+v, %v", res, err)
	}
	m.kill()
	b.keepsNewer(path, c, fm, read)
	b.bringLate(path, c, fm, m.history)
	return became
}

// bringLate brings to a copy that was gone on from what it had lacked, as a tool does that is started again. What is
// shown stays the side that was gone on from; for writing it may be a fork.
func (b *bench) bringLate(path string, c *torn, fm *film, h *history) {
	t := b.t
	t.Helper()
	now := objects(t, path)
	for name, data := range fm.frames[c.last].objects {
		if name != "root" && name != "envfs.json" && len(data) > len(now[name]) { // a power cut may have taken some
			store(t, path, map[string]string{name: data})
		}
	}
	before := objects(t, path)
	m := b.mustOpen(path, fs.Options{ReadOnly: true}, h)
	m.is("when the rest has come", h.now)
	m.kill()
	m, err := b.open(path, machine("alpha"), h)
	if errors.Is(err, fs.ErrFork) {
		keeps(t, path, before)
		return
	}
	must(t, err)
	m.is("when the rest has come, for writing", h.now)
	m.kill()
}

// checkSaid checks that a copy which is not of the newest moment is not shown without a word: not if a root is there
// that is newer, or its beginning.
func (b *bench) checkSaid(c *torn, fm *film, read int, said string) {
	t := b.t
	t.Helper()
	root := &fm.frames[c.root]
	switch {
	case said != "" && c.exact:
		t.Fatalf("a whole copy: %s", said)
	case said != "":
		return
	case read < root.folded:
		t.Errorf("moment %d, root is of %d, and nothing is said", read, root.folded)
	case c.exact && read < root.at:
		t.Errorf("moment %d of a whole copy of %d", read, root.at)
	}
	for name := range c.objects {
		if strings.HasPrefix(name, "roots/") && fm.frames[fm.first(name)].folded > read {
			t.Errorf("moment %d, %s is of %d, and nothing is said", read, name, fm.frames[fm.first(name)].folded)
		}
	}
}

// keepsNewer checks that nothing is gone that was made after the moment that was gone on from, if anything tells that
// more followed it.
func (b *bench) keepsNewer(path string, c *torn, fm *film, at int) {
	b.t.Helper()
	after := 0
	for after < len(fm.frames) && fm.frames[after].at <= at {
		after++
	}
	told := false
	for name := range c.objects {
		told = told || fm.first(name) > after && (strings.HasPrefix(name, "folds/") || strings.HasPrefix(name, "roots/"))
	}
	now := objects(b.t, path)
	for name, data := range c.objects {
		if told && fm.first(name) > after && !kept(now, name, data) {
			b.t.Errorf("newer than moment %d and deleted: %s", at, name)
		}
	}
}

// kept reports whether a store has an object, or what came of it (a root's copy is made whole), or it was set aside.
func kept(now map[string]string, name, data string) bool {
	if strings.HasPrefix(now[name], data) { // nothing of which the beginning is cut off need stay
		return true
	}
	for other, have := range now {
		if strings.HasPrefix(other, "damaged/"+strings.ReplaceAll(name, "/", "-")) && have == data {
			return true
		}
	}
	return false
}
