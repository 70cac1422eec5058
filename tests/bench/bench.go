package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"envfs/tests/bench/lab"
	"envfs/tests/command"
)

// memoryStep is the name under which memory stands among the steps.
const memoryStep = "memory of the daemon, peak"

// bench measures.
type bench struct {
	options
	talk    io.Writer
	places  *places
	tools   tools
	kit     *kit
	results *results
}

// newBench makes everything that is used in all rounds. The caller closes it.
func newBench(ctx context.Context, o options, talk io.Writer) (_ *bench, err error) {
	b := &bench{options: o, talk: talk, results: newResults(o.Peers), tools: tools{self: "/proc/self/exe"}}
	for _, name := range o.Peers {
		if name == lab.GocryptfsName {
			if _, err := exec.LookPath(lab.GocryptfsName); err != nil {
				return nil, fmt.Errorf("%w; install it or leave it out with -peers", err)
			}
		}
	}
	b.KeepCaches = o.KeepCaches || os.Geteuid() != 0
	if b.places, err = newPlaces(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.tools.envfs, err = command.Build(b.places.base); err != nil {
		return nil, err
	}
	if b.kit, err = newKit(ctx, filepath.Join(b.places.tmpfs, "kit"), o.sizes); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *bench) close() error { return b.places.close() }

// measure measures all rounds.
func (b *bench) measure(ctx context.Context) error {
	for round := range b.Rounds {
		for _, store := range b.stores {
			peaks := make(map[string]int64)
			for _, chapter := range chapters(b.sizes) {
				if err := b.chapter(ctx, round, store, chapter, peaks); err != nil {
					return err
				}
			}
			for name, peak := range peaks {
				b.results.Add(store, memoryStep, lab.Mebibytes, name, float64(peak)/(1<<20), 0)
			}
		}
	}
	return nil
}

// chapter measures the steps of a chapter on new worlds, which it removes. It notes the peaks of the daemons' memory.
func (b *bench) chapter(ctx context.Context, round int, store string, chapter []step, peaks map[string]int64) (err error) {
	var worlds []*world
	defer func() {
		for _, w := range worlds {
			if w.peak > 0 {
				peaks[w.name] = max(peaks[w.name], w.peak)
			}
			err = errors.Join(err, w.discard())
		}
	}()
	s := site{sizes: b.sizes, kit: b.kit, blocks: lab.Shuffled(b.sizes.big, round)}
	for i := range b.Peers {
		k, _ := kindOf(b.Peers[(i+round)%len(b.Peers)])
		if !b.wanted(chapter, k) {
			continue
		}
		w, err := newWorld(b.places.of(store), k, &b.tools, s)
		if err != nil {
			return err
		}
		w.keepCaches = b.KeepCaches
		worlds = append(worlds, w)
	}
	for _, s := range chapter {
		if !b.Steps.MatchString(s.name) {
			continue
		}
		fmt.Fprintf(b.talk, "%s round %d of %d, %s: %s:", time.Now().Format(time.TimeOnly), round+1, b.Rounds, store, s.name)
		for _, w := range worlds {
			m, err := w.measure(ctx, chapter, s)
			if err != nil {
				fmt.Fprintln(b.talk)
				return err
			}
			fmt.Fprintf(b.talk, " %s %s", w.name, lab.Figure(m.value))
			b.results.Add(store, s.name, s.unit, w.name, m.value, m.after.Seconds())
		}
		fmt.Fprintf(b.talk, " %s\n", s.unit)
	}
	return nil
}

// wanted reports whether a peer has any step to do in a chapter.
func (b *bench) wanted(chapter []step, k kind) bool {
	for _, s := range chapter {
		if b.Steps.MatchString(s.name) && (k.keeps || !s.contents) {
			return true
		}
	}
	return false
}
