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

// The test binary plays the server of the empty file system, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == emptyVerb {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every step gives a figure for everyone who can do it, and nothing is left behind.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	err := run(t.Context(), []string{"-quick", "-rounds", "1", "-peers", "bare,empty,envfs", "-json", "-keep-caches", "-dir", dir}, &out, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]result)
	for dec := json.NewDecoder(&out); dec.More(); {
		var r result
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got[r.Store+", "+r.Step+", "+r.Peer] = r
	}
	want := func(store, step string, peers ...string) {
		for _, peer := range peers {
			name := store + ", " + step + ", " + peer
			if r := got[name]; r.Median <= 0 || r.Min != r.Median || r.Max != r.Median || len(r.Values) != 1 {
				t.Errorf("%s: %+v", name, r)
			}
			delete(got, name)
		}
	}
	for _, store := range []string{onDisk, onTmpfs} {
		for _, chapter := range chapters(quickSizes()) {
			for _, s := range chapter {
				want(store, s.name, "bare", "envfs")
				if !s.contents {
					want(store, s.name, "empty")
				}
			}
		}
		want(store, memoryStep, "envfs", "empty")
	}
	if len(got) != 0 {
		t.Errorf("figures that nobody asked for: %v", got)
	}
	checkGone(t, dir)
}

// Whatever the benchmark is doing when it is interrupted, nothing is left behind.
func TestInterrupted(t *testing.T) {
	for _, after := range []time.Duration{800 * time.Millisecond, 1300 * time.Millisecond} {
		dir := t.TempDir()
		ctx, cancel := context.WithTimeout(t.Context(), after)
		defer cancel()
		err := run(ctx, []string{"-quick", "-rounds", "1000", "-peers", "envfs,empty", "-keep-caches", "-dir", dir}, t.Output(), t.Output())
		if !errors.Is(err, context.DeadlineExceeded) && (err == nil || ctx.Err() == nil) {
			t.Errorf("after %v: %v", after, err)
		}
		checkGone(t, dir)
	}
}

func checkGone(t *testing.T, dir string) {
	t.Helper()
	if err := lab.LeftBehind(dir); err != nil {
		t.Error(err)
	}
}

func TestTables(t *testing.T) {
	r := newResults([]string{"bare", lab.GocryptfsName, "envfs"})
	for round, v := range []float64{1, 3, 2} {
		r.Add(onDisk, "read", lab.Megabytes, "bare", 5000.4, 0)
		r.Add(onDisk, "read", lab.Megabytes, lab.GocryptfsName, 100*v, 0)
		r.Add(onDisk, "read", lab.Megabytes, "envfs", 300*v, 0)
		r.Add(onDisk, "list", lab.Seconds, lab.GocryptfsName, 0.5, 0)
		r.Add(onDisk, "list", lab.Seconds, "envfs", 0.25*float64(round+1), 0)
	}
	r.Add(onTmpfs, "read", lab.Megabytes, "bare", 0.12345, 0)
	var out bytes.Buffer
	if err := r.writeTables(&out, "a machine", ""); err != nil {
		t.Fatal(err)
	}
	want := "`make bench`: a machine." + `

| store on disk |  | bare | gocryptfs | envfs | envfs : gocryptfs |
| --- | --- | ---: | ---: | ---: | ---: |
| read | MB/s | 5,000 | 200 (100–300) | 600 (300–900) | 3.00 |
| list | s | - | 0.500 | 0.500 (0.250–0.750) | 1.00 (0.667–2.00) |

| store on tmpfs |  | bare | gocryptfs | envfs | envfs : gocryptfs |
| --- | --- | ---: | ---: | ---: | ---: |
| read | MB/s | 0.123 | - | - | - |
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"-rounds 0", "-peers nobody", "-peers bare,bare", "-store moon", "-steps (", "more"} {
		if _, err := parse(strings.Fields(args), t.Output()); !errors.As(err, new(lab.UsageError)) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
