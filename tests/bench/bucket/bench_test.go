package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"envfs/tests/bench/lab"
)

// Every step gives figures for envfs, and nothing is left behind.
func TestQuick(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "bench-test.") // where syncing costs nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	var out bytes.Buffer
	args := []string{"-quick", "-rounds", "1", "-peers", "envfs,minio-go", "-latency", "0,4ms", "-json", "-keep-caches", "-dir", dir}
	if err := run(t.Context(), args, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]result)
	for dec := json.NewDecoder(&out); dec.More(); {
		var r result
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got[rowName(r.Where, r.Step)+", "+r.Peer] = r
	}
	want := func(where, step, peer string) {
		name := rowName(where, step) + ", " + peer
		r, ok := got[name]
		if !ok || len(r.Values) != 1 || r.Median != r.Values[0] || r.Median <= 0 {
			t.Errorf("%s: %+v", name, r)
		}
		if r.Unit == lab.Requests && len(r.Kinds) == 0 {
			t.Errorf("%s: no kinds of requests", name)
		}
		delete(got, name)
	}
	for far, at := range []string{"no latency", "latency of 4ms"} {
		for _, chapter := range chapters(quickSizes()) {
			for _, s := range chapter {
				for _, name := range []string{envfsName, minioName} {
					k, _ := kindOf(name)
					if far == 1 && !s.far || s.hidden || !s.does(&k) {
						continue
					}
					want(at, s.figure(returnedPart), name)
					want(at, s.figure(requestsPart), name)
					if s.cold && name == envfsName {
						want(at, s.figure(mountPart), name)
						want(at, s.figure(askedPart), name)
					}
					if s.saves {
						want(at, s.figure(safePart), name)
					}
				}
			}
		}
		want(at, memoryStep, envfsName)
	}
	if len(got) != 0 {
		t.Errorf("figures that nobody asked for: %v", got)
	}
	checkGone(t, dir)
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"-rounds 0", "-peers nobody", "-peers envfs,envfs", "-latency soon", "-steps (", "more"} {
		if _, err := parse(strings.Fields(args), t.Output()); !errors.As(err, new(lab.UsageError)) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// A peer that is not installed is named.
func TestInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := newBench(t.Context(), options{Options: lab.Options{Peers: []string{"s3fs"}}}, t.Output())
	if err == nil || !strings.Contains(err.Error(), "peer s3fs: ") || !strings.Contains(err.Error(), "leave the peer out") {
		t.Error(err)
	}
}

func TestJudge(t *testing.T) {
	row := func(u lab.Unit, ours, theirs float64) *lab.Row {
		return &lab.Row{Where: "here", Step: "work", Unit: u, Peers: map[string]*lab.Series{envfsName: {Values: []float64{ours}}, minioName: {Values: []float64{theirs}}}}
	}
	for _, c := range []struct {
		target        target
		row           *lab.Row
		want, verdict string
	}{
		{target{}, row(lab.Seconds, 1, 1), "", ""},
		{atMost(2), row(lab.Seconds, 1.5, 1), "≤ 2", "met"},
		{atMost(2), row(lab.Requests, 3, 1), "≤ 2", "missed"},
		{atLeast(300), row(lab.Megabytes, 200, 1), "≥ 300", "missed"},
		{within(1.5, minioName), row(lab.Megabytes, 100, 140), "1.5 × minio-go, 4 MiB objects", "met (1.40 ×)"},
		{within(1.5, minioName), row(lab.Seconds, 3, 1), "1.5 × minio-go, 4 MiB objects", "missed (3.00 ×)"},
	} {
		f := &figures{targets: map[string]target{rowName("here", "work"): c.target}}
		if want, verdict := f.judge(c.row); want != c.want || verdict != c.verdict {
			t.Errorf("%+v: %q, %q", c, want, verdict)
		}
	}
}

// Whatever the benchmark is doing when it is interrupted, nothing is left behind.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	err := run(ctx, []string{"-quick", "-rounds", "1000", "-peers", "envfs", "-latency", "50ms", "-keep-caches", "-dir", dir}, t.Output(), t.Output())
	if err == nil || ctx.Err() == nil {
		t.Error(err)
	}
	checkGone(t, dir)
}

func checkGone(t *testing.T, dir string) {
	t.Helper()
	if err := lab.LeftBehind(dir); err != nil {
		t.Error(err)
	}
}
