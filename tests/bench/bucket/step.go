package main

import (
	"context"
	"fmt"
	"slices"

	"envfs/tests/bench/lab"
)

// step is one kind of work that is measured.
type step struct {
	name   string
	unit   lab.Unit
	makes  bool    // what it leaves is needed by steps behind it
	cold   bool    // begins with nothing fetched
	warm   bool    // begins when all is listed
	saves  bool    // it is also measured until all is in the bucket
	fsync  work    // that makes it safe where a peer can do so by fsync
	far    bool    // it is measured also with latency
	own    bool    // envfs alone does it
	hidden bool    // it is never measured
	groups []group // of peers that do it besides those with files in the bucket

	work work

	returned, safe, requests, distant target // what envfs is to reach; distant with latency
}

// work does something at a site, and returns how much it has done, in the unit of the step without the "/s".
type work func(context.Context, *site) (float64, error)

// once is the amount of work of steps that are measured in seconds.
const once = 1

// target is a figure to be reached, or how many times as long as another peer it may take. The zero value is none.
type target struct {
	limit  float64
	other  string // name of a peer
	factor float64
}

func atMost(x float64) target                    { return target{limit: x} }
func atLeast(x float64) target                   { return target{limit: x} }
func within(factor float64, other string) target { return target{factor: factor, other: other} }
func (t target) none() bool                      { return t == target{} }
func (t target) relative() bool                  { return t.other != "" }

func (s *step) figure(part string) string { return s.name + ": " + part }

// does reports whether a peer is to do the step.
func (s *step) does(k *kind) bool {
	if s.own {
		return k.name == envfsName
	}
	return k.group == inBucket || slices.Contains(s.groups, k.group)
}

// The parts of a step that are measured.
const (
	returnedPart = "returned"
	safePart     = "safe"
	requestsPart = "requests"
	mountPart    = "mounting before" // of a cold step
	askedPart    = "requests of mounting before"
)

func (s *step) targets(far bool) map[string]target {
	if far {
		return map[string]target{returnedPart: s.distant}
	}
	return map[string]target{returnedPart: s.returned, safePart: s.safe, requestsPart: s.requests}
}

// chapters are the steps in their order. A chapter begins with an empty bucket; its steps find what those before have left.
func chapters(z sizes) [][]step {
	files := lab.Count(z.files)
	big := fmt.Sprintf("%d MiB", z.big>>20)
	return [][]step{
		{
			{name: fmt.Sprintf("copy %s files of 8 KiB", files), unit: lab.Seconds, makes: true, saves: true, work: copyFiles,
				returned: atMost(1), safe: atMost(2), requests: atMost(30)},
			{name: "ls -lR of these, cold", unit: lab.Seconds, cold: true, far: true, work: list, returned: atMost(0.06), distant: atMost(1)},
			{name: "read all of these, cold", unit: lab.Seconds, cold: true, work: readFiles, returned: atMost(1)},
			{name: "rename the directory of these", unit: lab.Seconds, warm: true, saves: true, work: rename,
				returned: atMost(0.01), requests: atMost(5)},
			{name: "rm -rf of these", unit: lab.Seconds, warm: true, saves: true, work: remove, returned: atMost(0.1), safe: atMost(0.5)},
		},
		append(copyParts(z),
			step{name: "ls -lR of as many, folded, cold", unit: lab.Seconds, cold: true, far: true, own: true, work: list, returned: atMost(0.06), distant: atMost(1)},
			step{name: "read all of as many, folded, cold", unit: lab.Seconds, cold: true, far: true, own: true, work: readFiles, returned: atMost(1)},
		),
		{
			{name: "write " + big, unit: lab.Megabytes, makes: true, saves: true, groups: []group{bareOnly, localOnly}, work: writeBig, fsync: syncBig,
				returned: within(2, gocryptfsLocalName), safe: within(1.2, minioName)},
			{name: "read " + big + ", cold", unit: lab.Megabytes, cold: true, far: true, groups: []group{bareOnly}, work: readBig,
				returned: within(1.5, minioName), distant: atLeast(300)},
			{name: "4 KiB random read, 32 at once, cold", unit: lab.PerSecond, cold: true, far: true, work: readRandom, distant: atLeast(1000)},
		},
		{
			{name: fmt.Sprintf("git clone of %s files", lab.Count(z.repo)), unit: lab.Seconds, saves: true, groups: []group{localOnly}, work: clone,
				returned: within(1.3, envfsLocalName)},
		},
		{
			{name: fmt.Sprintf("sqlite, %s synced inserts", lab.Count(z.inserts)), unit: lab.PerSecond, saves: true, groups: []group{localOnly}, work: insert,
				returned: within(1.3, envfsLocalName)},
		},
	}
}

// copyParts are steps that copy the small files in parts, between which envfs is unmounted and folds, as it does when there
// are few. So each file has an object of its own.
func copyParts(z sizes) []step {
	var parts []step
	const few = 2 // directories
	for first := 0; first*perDirectory < z.files; first += few {
		parts = append(parts, step{name: fmt.Sprintf("copy directory %d and the next", first), makes: true, own: true, hidden: true, saves: true,
			work: func(ctx context.Context, s *site) (float64, error) { return once, s.copyDirectories(ctx, first, few) }})
	}
	return parts
}
