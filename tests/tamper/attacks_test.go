package tamper

import (
	"bytes"
	"os"
	"syscall"

	"envfs/blockcrypt"
	"envfs/fs"
)

// target is one object of each kind, and what needs it.
type target struct {
	name    string
	object  func(s *state) string
	attempt // what is expected if the object is not what it should be
}

func header(path string) func(*state) string {
	return func(s *state) string { return s.of(path).header }
}
func index(path string) func(*state) string { return func(s *state) string { return s.of(path).index } }

func shard(s *state) string { return s.of("Zq-many").shards[1] }

func inShard(s *state) []string {
	o := s.of("Zq-many")
	return append([]string{"Zq-many"}, o.inShard[o.shards[1]]...)
}

func liveExtent(path string) func(*state) string {
	return func(s *state) string { return s.of(path).extents[1] }
}

// targets are the objects of a closed vault that something needs.
func targets() []target {
	harms := func(p ...string) attempt { return attempt{harmed: paths(p...)} }
	return []target{
		{"root", func(*state) string { return "root" }, attempt{refused: fs.ErrDamaged}},
		{"key file", func(s *state) string { return s.rootObj.KeyFile.Name }, attempt{refused: fs.ErrDamaged}},
		{"last fold record", func(s *state) string { return s.rootObj.Fold.Name }, attempt{readers: fs.ErrDamaged, object: true}},
		{"older fold record", func(s *state) string { return s.fold.Runs[0].Name }, attempt{readers: fs.ErrDamaged, object: true}},
		{"header with blocks", header("Zq-small"), harms("Zq-small")},
		{"header of two names", header("Zq-hard"), harms("Zq-hard", "Zq-other/Zq-hard-2")},
		{"header with attributes", header("Zq-xattr"), harms("Zq-xattr")},
		{"header with an extent table", header("Zq-extents"), harms("Zq-extents")},
		{"extent", liveExtent("Zq-extents"), harms("Zq-extents")},
		{"map page", func(s *state) string { return s.of("Zq-paged").maps[1] }, harms("Zq-paged")},
		{"node of the map", func(s *state) string { return s.of("Zq-paged").maps[0] }, harms("Zq-paged")},
		{"page of the extent table", func(s *state) string { return s.of("Zq-paged").tables[0] }, harms("Zq-paged")},
		{"index", index("Zq-deep/Zq-2"), attempt{harmed: all("Zq-deep/Zq-2")}},
		{"index with attributes", index("Zq-attrs"), attempt{harmed: all("Zq-attrs")}},
		{"shard table", index("Zq-many"), attempt{harmed: all("Zq-many")}},
		{"shard", shard, attempt{harmed: inShard}},
		{"top index", index(""), attempt{harmed: all("")}},
		{"index of links", index("(links)"), harms("Zq-hard", "Zq-other/Zq-hard-2")},
		{"copy of the key file", func(*state) string { return "envfs.json" }, attempt{object: true}},
	}
}

// again is each for attacks that do to the objects what another has done already.
func again(do func(i *intruder, name string)) []attempt {
	cases := each(do)
	for k := range cases {
		cases[k].idle = true
	}
	return cases
}

// each makes an attempt on every target.
func each(do func(i *intruder, name string)) (cases []attempt) {
	for _, x := range targets() {
		a := x.attempt
		a.name = x.name
		a.do = func(i *intruder) { do(i, x.object(i.now)) }
		cases = append(cases, a)
	}
	return cases
}

const (
	prefix = blockcrypt.ExtentPrefixSize
	record = blockcrypt.ExtentRecordSize
)

// slotOf returns the bytes of a slot.
func slotOf(b []byte, slot int) []byte { return b[prefix+slot*record:][:record] }

// place is where a block of a file lies: which of its extents, and which slot there.
func place(s *state, path string, block uint64) (extent string, slot int) {
	o := s.of(path)
	for _, r := range o.head.Runs {
		if r.Kind == blockcrypt.RunExtent && block >= r.Start && block < r.Start+r.Count {
			for k, x := range o.infos {
				if x.Number == r.Extent {
					return o.extents[k], int(r.Slot) + int(block-r.Start)
				}
			}
		}
	}
	panic("no such block of " + path)
}

// attacks is the table of docs/THREATS.md.
func attacks() []attack {
	var all []attack
	for _, part := range [][]attack{damages(), replays(), journals(), keyFiles(), holders(), hostile()} {
		all = append(all, part...)
	}
	return all
}

// damages are done to the bytes of single objects.
func damages() []attack {
	oneFile := paths("Zq-extents")
	twoFiles := paths("Zq-extents", "Zq-extents-b")
	return []attack{
		{name: "flip a bit of any object", verdict: found,
			effect: "what needs the object gives EIO; a root or key file refuses the vault; of an extent, one block gives EIO",
			cases: append(each(func(i *intruder, name string) {
				i.edit(name, func(b []byte) []byte { return flip(len(b) * 5)(b) })
			}),
				attempt{name: "copy of root", object: true, do: func(i *intruder) { i.edit(i.now.rootObj.Name().String(), flip(8*300)) }},
				attempt{name: "prefix of an extent", flagged: oneFile,
					do: func(i *intruder) { i.edit(i.now.of("Zq-extents").extents[0], flip(8*40)) }},
				attempt{name: "block that was overwritten", flagged: oneFile, do: func(i *intruder) {
					i.edit(i.now.of("Zq-extents").extents[0], func(b []byte) []byte { slotOf(b, 3)[99] ^= 1; return b })
				}},
			)},
		{name: "flip a bit of an object that is superseded", verdict: harmless,
			effect: "nothing needs it but older roots in `roots/`, of which it is found when they are opened",
			cases: []attempt{
				{name: "header", do: func(i *intruder) { i.edit(i.first.of("Zq-small").header, flip(5000)) }},
				{name: "index", do: func(i *intruder) { i.edit(i.first.of("").index, flip(5000)) }},
			}},
		{name: "zero a block", verdict: found, effect: "that block gives EIO; zeros are never shown in its place",
			cases: []attempt{
				{name: "of an extent", harmed: oneFile, do: func(i *intruder) {
					name, slot := place(i.now, "Zq-extents", 17)
					i.edit(name, func(b []byte) []byte { clear(slotOf(b, slot)); return b })
				}},
				{name: "all of an extent", harmed: oneFile, do: func(i *intruder) {
					i.edit(i.now.of("Zq-extents").extents[1], func(b []byte) []byte { clear(b); return b })
				}},
				{name: "of a header", harmed: paths("Zq-small"), do: func(i *intruder) {
					i.edit(i.now.of("Zq-small").header, func(b []byte) []byte { clear(b[len(b)-4000:]); return b })
				}},
			}},
		{name: "cut an object to nothing", verdict: found, effect: "as a flipped bit",
			cases: again(func(i *intruder, name string) { i.write(name, nil) })},
		{name: "cut an object inside a block or a record", verdict: found, effect: "as a flipped bit; of an extent, the blocks that are gone give EIO",
			cases: again(func(i *intruder, name string) {
				i.edit(name, func(b []byte) []byte { return b[:len(b)-33] })
			})},
		{name: "cut an extent at the boundary of a block", verdict: found, effect: "the blocks that are gone give EIO",
			cases: []attempt{{harmed: oneFile, do: func(i *intruder) {
				i.edit(i.now.of("Zq-extents").extents[1], func(b []byte) []byte { return b[:prefix+5*record] })
			}}}},
		{name: "delete an object", verdict: found, effect: "as a flipped bit; without its root the vault is refused and init does not touch it",
			cases: deletions()},
		{name: "append to an object", verdict: found, effect: "objects with a hash: as a flipped bit. Extents: nothing refers to what is appended, it is never read",
			cases: []attempt{
				{name: "header", harmed: paths("Zq-small"), do: func(i *intruder) {
					i.edit(i.now.of("Zq-small").header, func(b []byte) []byte { return append(b, 0) })
				}},
				{name: "old block to its extent", do: func(i *intruder) {
					old := i.read(i.now.of("Zq-extents").extents[0])
					i.edit(i.now.of("Zq-extents").extents[3], func(b []byte) []byte { return append(b, slotOf(old, 3)...) })
				}},
			}},
		{name: "swap blocks in a file", verdict: found, effect: "both blocks give EIO",
			cases: []attempt{{harmed: oneFile, do: func(i *intruder) {
				i.edit(i.now.of("Zq-extents").extents[0], func(b []byte) []byte {
					x := bytes.Clone(slotOf(b, 0))
					copy(slotOf(b, 0), slotOf(b, 1))
					copy(slotOf(b, 1), x)
					return b
				})
			}}}},
		{name: "swap blocks between files", verdict: found, effect: "both blocks give EIO, also at the same place of both",
			cases: []attempt{{harmed: twoFiles, do: func(i *intruder) {
				a, sa := place(i.now, "Zq-extents", 18)
				b, sb := place(i.now, "Zq-extents-b", 18)
				x, y := i.read(a), i.read(b)
				z := bytes.Clone(slotOf(x, sa))
				copy(slotOf(x, sa), slotOf(y, sb))
				copy(slotOf(y, sb), z)
				i.write(a, x)
				i.write(b, y)
			}}}},
		{name: "drop leading blocks of an extent", verdict: found, effect: "all blocks of the extent give EIO",
			cases: []attempt{{harmed: oneFile, do: func(i *intruder) {
				i.edit(i.now.of("Zq-extents").extents[1], func(b []byte) []byte { return append(b[:prefix], b[prefix+record:]...) })
			}}}},
		{name: "put something else than a file in an object's place", verdict: found, effect: "as a deleted object; links are not followed, nothing waits for a FIFO",
			cases: []attempt{
				{name: "FIFO", harmed: paths("Zq-small"), do: func(i *intruder) {
					i.replace(i.now.of("Zq-small").header, func(p string) error { return syscall.Mkfifo(p, 0o600) })
				}},
				{name: "directory", harmed: oneFile, do: func(i *intruder) {
					i.replace(i.now.of("Zq-extents").extents[1], func(p string) error { return os.Mkdir(p, 0o700) })
				}},
				{name: "symlink to the object", harmed: paths("Zq-tiny"), do: func(i *intruder) {
					name := i.now.of("Zq-tiny").header
					must(i.t, os.Rename(i.path(name), i.path("Zq-elsewhere")))
					must(i.t, os.Symlink(i.path("Zq-elsewhere"), i.path(name)))
				}},
				{name: "symlink to a device", harmed: paths("Zq-other/Zq-late"), do: func(i *intruder) {
					i.replace(i.now.of("Zq-other/Zq-late").header, func(p string) error { return os.Symlink("/dev/zero", p) })
				}},
				{name: "huge file", harmed: paths("Zq-tiny"), do: func(i *intruder) {
					must(i.t, os.Truncate(i.path(i.now.of("Zq-tiny").header), 1<<40))
				}},
			}},
	}
}

func deletions() []attempt {
	cases := again(func(i *intruder, name string) { i.remove(name) })
	for k := range cases {
		if cases[k].name == "root" {
			cases[k].refused = fs.ErrRootLost
		}
	}
	return append(cases, // who opens the vault for writing next makes the copy of root anew
		attempt{name: "all copies of root, as a crash could", do: func(i *intruder) { i.remove(i.names("roots/")...) }},
		attempt{name: "a whole directory of objects", harmed: paths("Zq-paged"), do: func(i *intruder) {
			id := i.now.of("Zq-paged").id.String()
			i.remove(i.names("files/" + id[:2] + "/" + id)...)
		}},
	)
}
