package main

import (
	"context"
	"fmt"
	"strings"
)

// unit is what a figure is in.
type unit string

const (
	megabytes unit = "MB/s"
	perSecond unit = "/s"
	seconds   unit = "s"
	mebibytes unit = "MiB" // of memory
)

// moreIsBetter tells rates from costs.
func (u unit) moreIsBetter() bool { return u == megabytes || u == perSecond }

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
	unit  unit
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
			{name: "1 MiB sequential write, to close", unit: megabytes, makes: theBig, work: writeBig(false)},
		},
		{
			{name: "1 MiB sequential write, to fsync", unit: megabytes, makes: theBig, work: writeBig(true)},
			{name: "1 MiB sequential read, cold", unit: megabytes, needs: theBig, cold: true, work: readBig},
			{name: "4 KiB random write, to close", unit: perSecond, needs: theBig, warm: readBig, work: writeRandom(0, false)},
			{name: "4 KiB random write, to fsync", unit: perSecond, needs: theBig, warm: readBig, work: writeRandom(1, true)},
			{name: "4 KiB random read, cold", unit: perSecond, needs: theBig, cold: true, work: readRandom(2)},
		},
		{
			{name: "4 KiB write + fsync", unit: perSecond, work: writeSynced},
		},
		{
			{name: fmt.Sprintf("create %s files of 4 KiB", count(z.files)), unit: perSecond, makes: theFiles, work: createFiles},
			{name: "ls -lR of these, cold", unit: seconds, needs: theFiles, cold: true, program: "ls", work: list},
			{name: "ls -lR of these, warm", unit: seconds, needs: theFiles, warm: list, program: "ls", work: list},
			{name: "read all of these, cold", unit: perSecond, needs: theFiles, cold: true, work: readFiles},
		},
		{
			{name: fmt.Sprintf("untar %s files", count(z.tree)), unit: seconds, makes: theTree, program: "tar", work: untar},
			{name: "rm -rf of these, cold", unit: seconds, needs: theTree, ends: theTree, cold: true, program: "rm", work: removeTree},
		},
		{
			{name: fmt.Sprintf("git clone of %s files", count(z.repo)), unit: seconds, contents: true, program: "git", work: clone},
		},
		{
			{name: fmt.Sprintf("sqlite, %s synced inserts", count(z.inserts)), unit: perSecond, contents: true, program: "sqlite3", work: insertSynced},
			{name: fmt.Sprintf("sqlite, %s rows in bulk", count(z.rows)), unit: seconds, contents: true, program: "sqlite3", work: insertBulk},
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

// count formats a number for people: 10,000.
func count(n int) string {
	s := fmt.Sprint(n)
	var groups []string
	for len(s) > 3 {
		groups = append([]string{s[len(s)-3:]}, groups...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, groups...), ",")
}
