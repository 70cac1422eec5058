// Command slowest reads the output of go test -json and shows it as go test does, only the failures in full. It closes
// with the ten slowest tests and with how many passed and failed. Its exit code tells whether all is well.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// shown is how many of the slowest tests are named.
const shown = 10

// event is one line of the format of cmd/test2json.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// key names a test; without a test, a package.
type key struct{ pkg, test string }

// timed is a test and how long it took.
type timed struct {
	key
	seconds float64
}

// report gathers what a run of tests says.
type report struct {
	out                     io.Writer
	output                  map[key][]string
	done                    []timed
	passed, failed, skipped int
	broken                  int // packages that failed as a whole
}

func main() {
	r := &report{out: os.Stdout, output: make(map[key][]string)}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "slowest:", err)
		os.Exit(1)
	}
	r.close()
	if r.failed > 0 || r.broken > 0 {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprint(r.out, string(line)) // go itself talks
			} else {
				r.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

func (r *report) take(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		r.output[k] = append(r.output[k], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.closePackage(k, e)
			return
		}
		r.done = append(r.done, timed{k, e.Elapsed})
		switch e.Action {
		case "pass":
			r.passed++
			delete(r.output, k)
		case "fail":
			r.failed++
			r.print(k)
		case "skip":
			r.skipped++
			r.print(k)
		}
	}
}

// closePackage prints the last line of a package, or all that it said if no test of it tells why it failed.
func (r *report) closePackage(k key, e event) {
	if e.Action == "fail" {
		r.broken++
		for other := range r.output {
			if other.pkg == k.pkg && other.test != "" {
				r.print(other) // a test that was running when the process died
			}
		}
		r.print(k)
		return
	}
	if out := r.output[k]; len(out) > 0 && !strings.Contains(out[len(out)-1], "[no test files]") {
		fmt.Fprint(r.out, out[len(out)-1])
	}
	delete(r.output, k)
}

func (r *report) print(k key) {
	for _, s := range r.output[k] {
		fmt.Fprint(r.out, s)
	}
	delete(r.output, k)
}

func (r *report) close() {
	slices.SortStableFunc(r.done, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	fmt.Fprintf(r.out, "\nThe %d slowest tests:\n", shown)
	n := 0
	for _, t := range r.done {
		if n == shown || t.seconds == 0 {
			break
		}
		if !strings.Contains(t.test, "/") { // subtests are counted in their test
			fmt.Fprintf(r.out, "%8.2f s  %s %s\n", t.seconds, t.pkg, t.test)
			n++
		}
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped", r.passed, r.failed, r.skipped)
	if r.broken > 0 {
		fmt.Fprintf(r.out, "; %d packages failed", r.broken)
	}
	fmt.Fprintln(r.out)
}
