package copies

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"envfs/fs"
)

const (
	liveDirs    = 100
	liveFiles   = 200 // in each
	liveChanges = 130 // of files, between two folds
	liveRounds  = 16  // at most, while one copier is at work
	liveGrace   = 2 * time.Hour
	liveMinute  = time.Minute // passes with each fold
	liveBacklog = 10          // folds whose dead wait for the end of their grace when a copy begins

	minObjects   = 20_000
	minFolds     = 10
	minDeletions = 1000
)

// busy is a mount on which work goes on.
type busy struct {
	*mount
	rnd   *rand.Rand
	made  int
	folds int
}

// round changes files here and there, makes some, removes some, and folds.
func (w *busy) round() {
	w.t.Helper()
	for range liveChanges {
		p := fmt.Sprintf("/d%02d/f%03d", w.rnd.IntN(liveDirs), w.rnd.IntN(liveFiles))
		w.made++
		switch k := w.rnd.IntN(20); {
		case w.now[p] == "":
			w.write(p, pattern(1+w.rnd.IntN(300), fmt.Sprint(w.made)))
		case k == 0:
			w.remove(p)
		case k == 1:
			w.rename(p, fmt.Sprintf("/d%02d/f%03d", w.rnd.IntN(liveDirs), w.rnd.IntN(liveFiles)))
		case k == 2:
			w.write(p, pattern(20_000+w.rnd.IntN(40_000), fmt.Sprint(w.made)))
		default:
			w.write(p, pattern(1+w.rnd.IntN(300), fmt.Sprint(w.made)))
		}
	}
	w.clock.advance(liveMinute)
	w.fold()
	w.folds++
}

// TestLiveCopies copies a vault by rsync while it is written, folded, and while what is superseded is deleted. The
// clock of the vault goes on by a minute with each fold, so that copying takes less than the grace.
func TestLiveCopies(t *testing.T) {
	seed := newSeed(t)
	b := newBench(t)
	top := b.dir()
	path := filepath.Join(top, "vault")
	b.makeVault(path, "")
	o := machine("cradle") // one machine only: its grace is not that of several
	o.Limits.Grace = liveGrace
	w := &busy{mount: b.mustOpen(path, o, nil), rnd: rand.New(rand.NewPCG(seed, 1))}
	for d := range liveDirs {
		w.mkdir(fmt.Sprintf("/d%02d", d))
		for i := range liveFiles {
			w.write(fmt.Sprintf("/d%02d/f%03d", d, i), pattern(1+w.rnd.IntN(300), fmt.Sprint(d, i)))
		}
	}
	w.fold()
	for i := range 5 {
		to := filepath.Join(top, fmt.Sprint("copy", i))
		passes := 1
		if i == 4 {
			passes = 2 // as one does before a snapshot: root and roots/ are newer than most then
		}
		w.copyLive(to, passes)
		b.checkLive(to, o, w.history, i == 0)
		must(t, os.RemoveAll(to))
	}
	w.close()
	w.mount = b.mustOpen(path, o, w.history)
	w.is("the original", w.now)
	w.kill()
}

// copyLive copies the vault while work goes on.
func (w *busy) copyLive(to string, passes int) {
	t := w.t
	t.Helper()
	for range liveBacklog {
		w.round()
	}
	// What died in these comes to the end of its grace fold by fold.
	w.clock.advance(liveGrace - (liveBacklog-1)*liveMinute)
	before := names(t, w.path)
	if len(before) < minObjects {
		t.Fatalf("%d objects", len(before))
	}
	folds, started := w.folds, w.clock.Now()
	for range passes {
		w.during(exec.Command("rsync", "-a", "--bwlimit=5M", "--out-format=%n", w.path+"/", to+"/"), len(before)/liveRounds)
	}
	took := w.clock.Now().Sub(started)
	folds = w.folds - folds - passes // the last of each may have ended later
	now := names(t, w.path)
	deleted := 0
	for name := range before {
		if !now[name] {
			deleted++
		}
	}
	t.Logf("%d objects; during the copy %d folds, %d objects deleted; it took %v of the vault's time", len(before), folds, deleted, took)
	if folds < minFolds || deleted < minDeletions {
		t.Errorf("%d folds, %d deletions during the copy", folds, deleted)
	}
	if took >= liveGrace {
		t.Errorf("the copy took %v, longer than the grace", took)
	}
}

// during works while a copier does, which says the name of each file that it copies. However slow the work is, the copier is
// not far ahead of it: with each round it may go on by a share of the files, as long as there are rounds.
func (w *busy) during(copier *exec.Cmd, share int) {
	w.t.Helper()
	var talk bytes.Buffer
	copier.Stderr = &talk
	said, err := copier.StdoutPipe()
	must(w.t, err)
	must(w.t, copier.Start())
	done, turns := make(chan error, 1), make(chan struct{}, liveRounds)
	go func() {
		lines := bufio.NewScanner(said)
		for n := 1; lines.Scan(); n++ {
			if n%share == 0 {
				<-turns // until then it can say only what fits into the pipe
			}
		}
		err := errors.Join(lines.Err(), copier.Wait())
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 24 {
			err = nil // files have vanished
		}
		if err != nil {
			err = fmt.Errorf("%v: %w\n%s", copier, err, talk.String())
		}
		done <- err
	}()
	defer close(turns)
	for range liveRounds {
		select {
		case err := <-done:
			must(w.t, err)
			return
		default:
			w.round()
			turns <- struct{}{}
		}
	}
	for {
		select {
		case err := <-done:
			must(w.t, err)
			return
		case turns <- struct{}{}:
		}
	}
}

// checkLive checks that the copy opens at a moment of history and says which; for writing, too.
func (b *bench) checkLive(to string, o fs.Options, h *history, write bool) {
	t := b.t
	t.Helper()
	m := b.mustOpen(to, fs.Options{ReadOnly: true}, h)
	at := m.isMoment("the copy")
	said := m.f.Status().Older
	t.Logf("moment %d of %d: %s", at, len(h.moments), said)
	if at < len(h.moments)-1 && said == "" {
		t.Errorf("opened without a word")
	}
	m.kill()
	if !write {
		return
	}
	b.refused(to, o, fs.ErrIncomplete)
	o.AcceptOlder = true
	m = b.mustOpen(to, o, h)
	if again := m.isMoment("the copy, for writing"); again != at {
		t.Errorf("moment %d for reading, %d for writing", at, again)
	}
	m.history = m.from()
	m.work("copied")
	m.close()
	b.quiet(to, m.history)
}

// names lists the files of a store.
func names(t *testing.T, path string) map[string]bool {
	t.Helper()
	m := make(map[string]bool)
	must(t, filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			m[p[len(path)+1:]] = true
		}
		return err
	}))
	return m
}
