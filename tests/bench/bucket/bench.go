package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"envfs/tests/bench/lab"
	"envfs/tests/command"
)

// memoryStep is the name under which memory stands among the steps.
const memoryStep = "memory of the daemons, peak"

// patience is how long a peer may take for a step before it is given up.
const patience = 4 * time.Minute

// bench measures.
type bench struct {
	options
	talk    io.Writer
	base    string // directory of everything
	memory  string // directory on a tmpfs: dropping the page cache leaves what lies there
	server  *server
	command string // envfs
	site    site
	figures *figures
}

// newBench makes everything that is used in all rounds. The caller closes it.
func newBench(ctx context.Context, o options, talk io.Writer) (_ *bench, err error) {
	b := &bench{options: o, talk: talk, figures: newFigures(o.Peers, o.sizes)}
	b.KeepCaches = o.KeepCaches || os.Geteuid() != 0
	for _, name := range o.Peers {
		k, _ := kindOf(name)
		if err := k.installed(); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.base, err = os.MkdirTemp(o.Dir, "envfs-bench."); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if b.memory, err = os.MkdirTemp("/dev/shm", "envfs-bench."); err != nil {
		return nil, fmt.Errorf("make directory on a tmpfs: %w", err)
	}
	if b.command, err = command.Build(b.base); err != nil {
		return nil, err
	}
	if err := os.Mkdir(b.worlds(), 0o755); err != nil {
		return nil, err
	}
	b.site = site{sizes: o.sizes, noise: lab.NewNoise(), source: filepath.Join(b.memory, "files"), repo: filepath.Join(b.memory, "repository.git")}
	if err := b.site.makeSource(); err != nil {
		return nil, fmt.Errorf("make files: %w", err)
	}
	if err := lab.MakeRepository(ctx, b.site.repo, o.sizes.repo); err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	b.server, err = startServer(filepath.Join(b.base, "server"), o.trace)
	return b, err
}

func (b *bench) worlds() string { return filepath.Join(b.base, "worlds") }

func (b *bench) close() error {
	var errs []error
	if b.server != nil {
		errs = append(errs, b.server.close())
	}
	for _, dir := range []string{b.base, b.memory} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// measure measures all rounds.
func (b *bench) measure(ctx context.Context) error {
	for round := range b.Rounds {
		for _, latency := range b.delays {
			peaks := make(map[string]int64)
			for _, chapter := range chapters(b.sizes) {
				if err := b.chapter(ctx, round, latency, chapter, peaks); err != nil {
					return err
				}
			}
			for name, peak := range peaks {
				b.figures.add(latency, memoryStep, lab.Mebibytes, name, float64(peak)/(1<<20))
			}
		}
	}
	return nil
}

// selected returns the steps of a chapter that are to be done, and which of them are to be measured.
func (b *bench) selected(chapter []step, latency time.Duration) (steps []step, measured map[string]bool) {
	measured = make(map[string]bool)
	for _, s := range chapter {
		if b.Steps.MatchString(s.name) && !s.hidden && (latency == 0 || s.far) {
			measured[s.name] = true
		}
	}
	for _, s := range chapter {
		if measured[s.name] || s.makes && len(measured) > 0 {
			steps = append(steps, s)
		}
	}
	return steps, measured
}

// chapter measures the steps of a chapter on new worlds, which it removes. It notes the peaks of the daemons' memory.
func (b *bench) chapter(ctx context.Context, round int, latency time.Duration, chapter []step, peaks map[string]int64) (err error) {
	steps, measured := b.selected(chapter, latency)
	var worlds []*world
	defer func() {
		for _, w := range worlds {
			err = errors.Join(err, b.leave(w, peaks))
		}
	}()
	at := b.site
	at.blocks = lab.Shuffled(b.sizes.big, round)
	for i := range b.Peers {
		k, _ := kindOf(b.Peers[(i+round)%len(b.Peers)])
		if !wanted(steps, measured, &k) {
			continue
		}
		w, err := newWorld(environment{ctx: ctx, envfs: b.command, server: b.server}, b.worlds(), k, at)
		if err != nil {
			return err
		}
		w.keepCaches = b.KeepCaches
		worlds = append(worlds, w)
	}
	for _, s := range steps {
		far := latency
		if !measured[s.name] {
			far = 0
		}
		fmt.Fprintf(b.talk, "%s round %d of %d, %s: %s:", time.Now().Format(time.TimeOnly), round+1, b.Rounds, where(far), s.name)
		var left []*world
		for _, w := range worlds {
			ok, err := b.step(ctx, w, &s, far, measured[s.name])
			if err != nil {
				fmt.Fprintln(b.talk)
				return err
			}
			if ok {
				left = append(left, w)
				continue
			}
			if err := b.leave(w, peaks); err != nil {
				return err
			}
		}
		worlds = left
		fmt.Fprintln(b.talk)
	}
	return nil
}

// leave removes a world.
func (b *bench) leave(w *world, peaks map[string]int64) error {
	if w.peak > 0 {
		peaks[w.name] = max(peaks[w.name], w.peak)
	}
	return w.discard()
}

// wanted reports whether a peer has any step to do.
func wanted(steps []step, measured map[string]bool, k *kind) bool {
	for _, s := range steps {
		if measured[s.name] && s.does(k) {
			return true
		}
	}
	return false
}

// step has a world do a step. If it fails, which is an error for envfs only, the world is of no use any more.
func (b *bench) step(ctx context.Context, w *world, s *step, latency time.Duration, measured bool) (ok bool, err error) {
	if !s.does(&w.kind) {
		return true, nil
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := w.do(limited, s, latency)
	switch {
	case err != nil && (ctx.Err() != nil || w.name == envfsName):
		return false, err
	case err != nil:
		fmt.Fprintf(b.talk, " %s failed (%v)", w.name, err)
		return false, nil
	case !measured:
		fmt.Fprintf(b.talk, " %s done", w.name)
		return true, nil
	}
	value := b.figures.note(latency, s, w.name, m)
	fmt.Fprintf(b.talk, " %s %s %s", w.name, lab.Figure(value), s.unit)
	if s.saves {
		fmt.Fprintf(b.talk, ", safe after %s s", lab.Figure(m.safe.Seconds()))
	}
	fmt.Fprintf(b.talk, " (%d);", m.requests.total())
	return true, nil
}

// about says on what was measured.
func (b *bench) about(ctx context.Context) string {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // fails for a bad address only
	parts := []string{"Linux " + unix.ByteSliceToString(uts.Release[:]), fmt.Sprintf("%d cores", runtime.NumCPU()), "MinIO on the same machine"}
	if name := lab.FSType(b.base); name != "" {
		parts = append(parts, name)
	}
	for _, cmd := range [][]string{{"rclone", "version"}, {lab.GocryptfsName, "-version"}, {"s3fs", "--version"}} {
		version, _, _ := strings.Cut(lab.CommandLine(ctx, cmd[0], cmd[1:]...), ";")
		version, _, _ = strings.Cut(strings.TrimPrefix(version, "Amazon Simple Storage Service File System V"), " (")
		if cmd[0] == "s3fs" && version != "" {
			version = "s3fs " + version
		}
		if version != "" {
			parts = append(parts, version)
		}
	}
	rounds := fmt.Sprintf("medians of %d rounds (lowest to highest)", b.Rounds)
	if b.Rounds == 1 {
		rounds = "one round"
	}
	parts = append(parts, rounds)
	if b.KeepCaches {
		parts = append(parts, "page cache not dropped for cold steps")
	}
	return strings.Join(parts, ", ")
}
