package main

import (
	"context"
	"fmt"

	"envfs/tests/bench/lab"
)

// thing is what a step leaves in a file system for steps behind it.
type thing int

const (
	nothing  thing = iota
	theBig         // file
	theFiles       // in directories
	theTree        // that was unpacked
)

// step is one kind of work that is measured.
type step struct {
	name  string
	unit  lab.Unit
	makes thing
	needs thing
	ends  thing

	// In which state of the page cache the step begins, which for one that needs nothing does not matter.
	cold bool // right after mounting, with no page of the store in the page cache
	warm work // right after this has been done

	contents bool   // needs a peer that keeps contents
	program  string // that does the work; "" if this process does

	work work
}

// work does something at a site, and returns how much it has done, in the unit of the step without the "/s".
type work func(context.Context, *site) (float64, error)

// site is where a step works.
type site struct {
	dir    string // in a mount
	sizes  sizes
	kit    *kit
	blocks []int64 // of the big file, all in a random order
}

// chapters are the steps in their order. A chapter begins with a file system that is fresh; its steps find what those
// before have left.
func chapters(z sizes) [][]step {
	return [][]step{
		{
			{name: "1 MiB sequential write, to close", unit: lab.Megabytes, makes: theBig, work: writeBig(false)},
		},
		{
			{name: "1 MiB sequential write, to fsync", unit: lab.Megabytes, makes: theBig, work: writeBig(true)},
			{name: "1 MiB sequential read, cold", unit: lab.Megabytes, needs: theBig, cold: true, work: readBig},
			{name: "4 KiB random write, to close", unit: lab.PerSecond, needs: theBig, warm: readBig, work: writeRandom(0, false)},
			{name: "4 KiB random write, to fsync", unit: lab.PerSecond, needs: theBig, warm: readBig, work: writeRandom(1, true)},
			{name: "4 KiB random read, cold", unit: lab.PerSecond, needs: theBig, cold: true, work: readRandom(2)},
		},
		{
			{name: "4 KiB write + fsync", unit: lab.PerSecond, work: writeSynced},
		},
		{
			{name: fmt.Sprintf("create %s files of 4 KiB", lab.Count(z.files)), unit: lab.PerSecond, makes: theFiles, work: createFiles},
			{name: "ls -lR of these, cold", unit: lab.Seconds, needs: theFiles, cold: true, program: "ls", work: list},
			{name: "ls -lR of these, warm", unit: lab.Seconds, needs: theFiles, warm: list, program: "ls", work: list},
			{name: "read all of these, cold", unit: lab.PerSecond, needs: theFiles, cold: true, work: readFiles},
		},
		{
			{name: fmt.Sprintf("untar %s files", lab.Count(z.tree)), unit: lab.Seconds, makes: theTree, program: "tar", work: untar},
			{name: "rm -rf of these, cold", unit: lab.Seconds, needs: theTree, ends: theTree, cold: true, program: "rm", work: removeTree},
		},
		{
			{name: fmt.Sprintf("git clone of %s files", lab.Count(z.repo)), unit: lab.Seconds, contents: true, program: "git", work: clone},
		},
		{
			{name: fmt.Sprintf("sqlite, %s synced inserts", lab.Count(z.inserts)), unit: lab.PerSecond, contents: true, program: "sqlite3", work: insertSynced},
			{name: fmt.Sprintf("sqlite, %s rows in bulk", lab.Count(z.rows)), unit: lab.Seconds, contents: true, program: "sqlite3", work: insertBulk},
		},
	}
}

// maker returns the first step of a chapter that makes t.
func maker(chapter []step, t thing) step {
	for _, s := range chapter {
		if s.makes == t {
			return s
		}
	}
	panic(fmt.Sprintf("no step makes %d", t)) // a mistake in chapters
}
