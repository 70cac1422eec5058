package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"envfs/fs"
	"envfs/remote/dir/memfs"
)

// modes are what a crash does, and how often.
var modes = []struct {
	mode   memfs.Mode
	weight int
}{
	{memfs.ModePrefix, 4},
	{memfs.ModeDropAll, 2}, {memfs.ModeDropAll | memfs.NamesOnSync, 1},
	{memfs.ModeRandom, 4}, {memfs.ModeRandom | memfs.NamesOnSync, 2},
	{memfs.ModeTorn, 5}, {memfs.ModeTorn | memfs.NamesOnSync, 2},
}

func drawMode(rng *rand.Rand) memfs.Mode {
	sum := 0
	for _, m := range modes {
		sum += m.weight
	}
	n := rng.IntN(sum)
	for _, m := range modes {
		if n -= m.weight; n < 0 {
			return m.mode
		}
	}
	return memfs.ModePrefix
}

func modeName(m memfs.Mode) string {
	name := []string{"kill -9", "power loss, nothing un-synced kept", "power loss, some kept", "power loss, some kept and torn"}[m&^memfs.NamesOnSync]
	if m&memfs.NamesOnSync != 0 {
		name += ", a file's sync keeps names"
	}
	return name
}

// verifier checks the states that crashes of one session leave.
type verifier struct {
	opener *opener
	limits fs.Limits
	hist   *history
	failed bool // folds have, in the workload
	log    *memfs.Log
	seed   uint64
	clock  *clock
	goOn   func(s *session) error // with what was recovered
	states int                    // counts
	turns  []int
}

// crashAt builds the state that a crash leaves when the log had p operations, and checks promise 3 on it. depth says
// how many crashes may follow one another.
func (v *verifier) crashAt(ctx context.Context, p int, mode memfs.Mode, number uint64, depth int) error {
	v.states++
	rng := rand.New(source(v.seed, number))
	m := v.log.State(rng, p, mode)
	err := v.recover(ctx, m, p, mode, number, depth)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s after log operation %d of %d (%s), state %d: %w\nwhat the crash did:\n%s",
		modeName(mode), p, v.log.Len(), v.around(p), number, err, clip(m.Schedule(), 40))
}

// point draws a moment of the log: any, or one near to where something becomes durable or is put in place, which are few
// in a long log.
func (v *verifier) point(rng *rand.Rand) int {
	if v.turns == nil {
		for i := range v.log.Len() {
			op := v.log.Op(i)
			switch {
			case op.Kind == memfs.OpSync, op.Kind == memfs.OpSyncDir, op.Kind == memfs.OpRename,
				op.Kind == memfs.OpCreate && strings.HasPrefix(op.Path, "journal/"):
				v.turns = append(v.turns, i)
			}
		}
	}
	if rng.IntN(2) == 0 || len(v.turns) == 0 {
		return rng.IntN(v.log.Len() + 1)
	}
	return min(v.turns[rng.IntN(len(v.turns))]+rng.IntN(3), v.log.Len())
}

func (v *verifier) around(p int) string {
	if p == 0 {
		return "nothing done"
	}
	return "the last is " + v.log.Op(p-1).String()
}

func clip(text string, lines int) string {
	list := strings.SplitAfter(text, "\n")
	if len(list) > lines {
		list = append(list[:lines], "...\n")
	}
	return strings.Join(list, "")
}

func (v *verifier) recover(ctx context.Context, m *memfs.FS, p int, mode memfs.Mode, number uint64, depth int) error {
	power := mode&^memfs.NamesOnSync != memfs.ModePrefix
	// Who only looks must see the same as who recovers.
	first, err := v.look(ctx, m)
	if err != nil {
		return fmt.Errorf("open to read: %w", err)
	}
	_, now, err := v.hist.match(first, p, power)
	if err != nil {
		return err
	}
	if v.hist.commits != nil {
		if err := checkDatabase(now, v.hist); err != nil {
			return err
		}
	}
	s, err := newSession(ctx, v.opener, m, now, v.clock, v.limits, v.seed, number)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	s.failed = v.failed
	if err := s.verify(); err != nil {
		return fmt.Errorf("opened to write: %w", err)
	}
	if err := s.inspect(); err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	recovered := s.at()
	if err := v.goOn(s); err != nil {
		return fmt.Errorf("going on after recovery: %w", err)
	}
	if depth == 0 {
		return nil
	}
	again := &verifier{opener: v.opener, limits: v.limits, hist: &s.hist, failed: v.failed, log: m.Log(), seed: v.seed<<8 ^ number, clock: v.clock, goOn: v.goOn}
	for i := range 3 {
		p := again.point(s.rng)
		if i == 0 { // in the midst of recovery
			p = s.rng.IntN(recovered + 1)
		}
		if err := again.crashAt(ctx, p, drawMode(s.rng), uint64(i), depth-1); err != nil {
			return fmt.Errorf("a second crash (recovery took %d operations): %w", recovered, err)
		}
	}
	v.states += again.states
	return nil
}

// look opens the vault read-only and reads everything.
func (v *verifier) look(ctx context.Context, m *memfs.FS) (*tree, error) {
	f, err := v.opener.open(ctx, m, fs.Options{ReadOnly: true, Clock: v.clock, Limits: v.limits})
	if err != nil {
		return nil, err
	}
	t, err := v.opener.dump(ctx, f, m)
	return t, errors.Join(err, f.Close(ctx))
}

// goOn writes, folds, closes and opens a recovered vault.
func (s *session) goOn() error {
	s.aside = s.acts
	maybe := func(list ...func() error) func() error {
		if i := s.rng.IntN(2 * len(list)); i < len(list) {
			return list[i]
		}
		return func() error { return nil }
	}
	steps := []func() error{
		s.acts, maybe(s.syncAll), s.acts, maybe(s.kill, s.sweep), maybe(s.syncAll, s.sweep), s.acts, maybe(s.syncAll),
		s.fold, s.verify, s.inspect, s.acts, maybe(s.sweep), s.remount, s.verify, s.inspect,
	}
	for _, do := range steps {
		if err := do(); err != nil {
			return err
		}
	}
	if err := s.closeHandles(); err != nil {
		return err
	}
	return s.store.Close()
}

// inspect looks for damage.
func (s *session) inspect() error {
	var found []string
	res, err := s.fs.Check(s.ctx, fs.CheckOptions{}, func(f fs.Finding) { found = append(found, fmt.Sprintf("%+v", f)) })
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if res.Damaged > 0 || len(found) > 0 {
		return fmt.Errorf("check finds damage:\n\t%s", strings.Join(found, "\n\t"))
	}
	return s.audit()
}

// finish looks at all there is at the end of a workload.
func (s *session) finish() error {
	for _, look := range []func() error{s.verify, s.inspect, s.lookBack} {
		if err := look(); err != nil {
			return fmt.Errorf("at the end: %w", err)
		}
	}
	return nil
}
