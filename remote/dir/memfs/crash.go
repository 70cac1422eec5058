package memfs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Mode says what a crash does to what was not synced.
type Mode uint8

// The modes of a crash.
const (
	ModePrefix  Mode = iota // keep all: kill -9, the machine goes on
	ModeDropAll             // drop all
	ModeRandom              // keep some changes, whole: of names any prefix, or any that do not depend on one dropped; of each file's content any
	ModeTorn                // the same, and tear writes at multiples of 512 bytes

	// NamesOnSync is added to a mode: the sync of a file makes durable all changes of names before it, as on ext4.
	NamesOnSync Mode = 0x80
)

const sector = 512

// decision is one thing that a power loss did.
type decision struct {
	what string
	op   *Op
	to   int64
	from int64
}

func (d decision) String() string {
	switch d.what {
	case "keep part":
		return fmt.Sprintf("%s of %v: [%d:%d]", d.what, *d.op, d.from, d.to)
	case "extend":
		return fmt.Sprintf("%s %s to %d bytes", d.what, d.op.Path, d.to)
	}
	return fmt.Sprintf("%s %v", d.what, *d.op)
}

// Schedule tells what the power loss did that m comes from, a line for each thing; empty if m comes from none, or
// nothing was lost.
func (m *FS) Schedule() string {
	var b strings.Builder
	for _, d := range m.decision {
		fmt.Fprintln(&b, d)
	}
	return b.String()
}

// State returns a file system as a crash after the first upto operations could leave it. It is unlocked, has an empty
// log, no bound and no hook, and the settings, inodes and identity of the one that the log is from. The same rng gives
// the same state; it may be nil for ModePrefix and ModeDropAll.
func (l *Log) State(rng *rand.Rand, upto int, mode Mode) *FS {
	ops := l.ops[:upto]
	limit := len(l.base.nodes)
	for i := range ops {
		limit = max(limit, ops[i].ino+1)
	}
	r := newReplay(l.base, ops, limit, mode&NamesOnSync != 0)
	c := crash{replay: r, rng: rng, mode: mode &^ NamesOnSync}
	c.loseNames()
	slices.Sort(r.dirty)
	for _, ino := range slices.Compact(r.dirty) {
		c.loseContent(ino)
	}
	m := &FS{uuid: l.from.uuid, canSyncFS: l.from.CanSyncFS(), next: limit, clock: l.clock + 1e9, decision: c.decision}
	m.root, m.used = r.disk.thaw()
	return m
}

type crash struct {
	*replay
	rng      *rand.Rand
	mode     Mode
	decision []decision
}

func (c *crash) note(what string, op *Op) {
	c.decision = append(c.decision, decision{what: what, op: op})
}

// chooser returns a function that says of each of n changes in order whether it is kept.
func (c *crash) chooser(n int) func(i int) bool {
	switch c.mode {
	case ModePrefix:
		return func(int) bool { return true }
	case ModeDropAll:
		return func(int) bool { return false }
	}
	if c.rng.IntN(2) == 0 {
		cut := c.rng.IntN(n + 1)
		return func(i int) bool { return i < cut }
	}
	share := []float64{0, 0.1, 0.5, 0.9, 1}[c.rng.IntN(5)]
	return func(int) bool { return c.rng.Float64() < share }
}

// loseNames decides on the changes of names. What follows a dropped one under the same name is dropped too.
func (c *crash) loseNames() {
	if len(c.names) == 0 {
		return
	}
	keep := c.chooser(len(c.names))
	blocked := make(map[key]bool)
	for i, op := range c.names {
		if keep(i) && !blocked[op.at] && !(op.Kind == OpRename && blocked[op.to]) {
			c.disk.rename(op)
			continue
		}
		blocked[op.at] = true
		if op.Kind == OpRename {
			blocked[op.to] = true
		}
		c.note("drop", op)
	}
}

// loseContent decides on the changes of one file's content.
func (c *crash) loseContent(ino int) {
	list := c.unsync[ino]
	if len(list) == 0 {
		return
	}
	keep := c.chooser(len(list))
	n := &c.disk.nodes[ino]
	whole := n.data.size // what the size would be, had nothing been lost
	lost := false
	for i, d := range list {
		if d.op.Kind == OpTruncate {
			whole = d.op.Off
		} else {
			whole = max(whole, d.op.Off+int64(len(d.op.Data)))
		}
		kept := keep(i)
		switch {
		case d.state == durable:
			c.disk.change(d.op)
		case c.mode == ModeTorn && d.op.Kind == OpWrite && c.rng.IntN(4) == 0:
			c.tear(n, d.op)
			lost = true
		case kept:
			c.disk.change(d.op)
		default:
			c.note("drop", d.op)
			lost = true
		}
	}
	// The length may reach the disk without the bytes.
	if lost && c.mode != ModeDropAll && n.data.size < whole && c.rng.IntN(3) == 0 {
		n.data.truncate(whole)
		c.decision = append(c.decision, decision{what: "extend", op: list[0].op, to: whole})
	}
}

// tear keeps a part of a write: its beginning, its end, or both without the middle, cut at sectors.
func (c *crash) tear(n *node, op *Op) {
	end := op.Off + int64(len(op.Data))
	cut := func() int64 { // a sector's begin within the write, or one of its ends
		first := op.Off / sector
		at := (first + c.rng.Int64N((end+sector-1)/sector-first+1)) * sector
		return min(max(at, op.Off), end)
	}
	a, b := cut(), cut()
	if a > b {
		a, b = b, a
	}
	part := func(from, to int64) {
		if from < to {
			n.data.write(from, op.Data[from-op.Off:to-op.Off])
		}
		c.decision = append(c.decision, decision{what: "keep part", op: op, from: from, to: to})
	}
	switch c.rng.IntN(3) {
	case 0:
		part(op.Off, a)
	case 1:
		part(b, end)
	default:
		part(op.Off, a)
		part(b, end)
	}
}

// Resume returns the file system as it was after the first upto operations, with them in its log: as who comes after a
// process that was killed then finds it. What was not synced is not yet.
func (l *Log) Resume(upto int) *FS {
	m := l.State(nil, upto, ModePrefix)
	base := l.base
	m.base, m.log = &base, slices.Clip(l.ops[:upto])
	return m
}
