package tamper

import (
	"path"
	"slices"
	"strings"

	"envfs/blockcrypt"
	"envfs/fs"
)

// replays put back what was there before, or elsewhere.
func replays() []attack {
	return []attack{
		{name: "put back an old block", verdict: found, effect: "that block gives EIO",
			cases: []attempt{
				{name: "into its new place", harmed: paths("Zq-extents"), do: func(i *intruder) {
					old := i.read(i.now.of("Zq-extents").extents[0])
					name, slot := place(i.now, "Zq-extents", 3)
					i.edit(name, func(b []byte) []byte { copy(slotOf(b, slot), slotOf(old, 3)); return b })
				}},
				{name: "of the header", harmed: paths("Zq-small"), do: func(i *intruder) {
					old := i.read(i.first.of("Zq-small").header)
					i.edit(i.now.of("Zq-small").header, func(b []byte) []byte {
						copy(b[len(b)-4000:], old[len(old)-4000:])
						return b
					})
				}},
			}},
		{name: "put back an old extent", verdict: found, effect: "its blocks give EIO",
			cases: []attempt{{harmed: paths("Zq-extents-b"), do: func(i *intruder) {
				i.write(i.now.of("Zq-extents-b").extents[3], i.read(i.first.of("Zq-extents-b").extents[0]))
			}}}},
		{name: "put back an old header", verdict: found, effect: "the file gives EIO",
			cases: []attempt{
				{name: "under the new name", harmed: paths("Zq-small"), do: func(i *intruder) {
					i.write(i.now.of("Zq-small").header, i.read(i.first.of("Zq-small").header))
				}},
				{name: "instead of the new one", harmed: paths("Zq-small"), do: func(i *intruder) {
					i.write(i.first.of("Zq-small").header, i.first.objects[i.first.of("Zq-small").header])
					i.remove(i.now.of("Zq-small").header)
				}},
			}},
		{name: "put back an old header with its extents", verdict: found, effect: "the file gives EIO",
			cases: []attempt{{harmed: paths("Zq-extents"), do: func(i *intruder) {
				id := i.now.of("Zq-extents").id.String()
				for _, name := range i.names("files/" + id[:2] + "/" + id) {
					if _, ok := i.first.objects[name]; !ok {
						i.remove(name)
					}
				}
				i.write(i.now.of("Zq-extents").header, i.first.objects[i.first.of("Zq-extents").header])
			}}}},
		{name: "put back an old index", verdict: found, effect: "the directory and all below it give EIO",
			cases: []attempt{
				{name: "of a directory", harmed: all("Zq-deep/Zq-2/Zq-3"), do: func(i *intruder) {
					i.write(i.now.of("Zq-deep/Zq-2/Zq-3").index, i.read(i.first.of("Zq-deep/Zq-2/Zq-3").index))
				}},
				{name: "of the top", harmed: all(""), do: func(i *intruder) {
					i.write(i.now.of("").index, i.read(i.first.of("").index))
				}},
			}},
		{name: "put back an old root", verdict: found, effect: "a newer one of the same line lies in `roots/`: that is gone on from, with a warning",
			cases: []attempt{{shows: closed, warned: "root was set back", do: func(i *intruder) { i.write("root", i.first.objects["root"]) }}}},
		{name: "swap two headers", verdict: found, effect: "both files give EIO",
			cases: []attempt{{harmed: paths("Zq-twin-a", "Zq-twin-b"), do: func(i *intruder) {
				i.swap(i.now.of("Zq-twin-a").header, i.now.of("Zq-twin-b").header)
			}}}},
		{name: "swap all objects of two files", verdict: found, effect: "both files give EIO",
			cases: []attempt{{harmed: paths("Zq-extents", "Zq-extents-b"), do: func(i *intruder) {
				a, b := i.now.of("Zq-extents"), i.now.of("Zq-extents-b")
				i.swap(a.header, b.header)
				for k := range min(len(a.extents), len(b.extents)) {
					i.swap(a.extents[k], b.extents[k])
				}
			}}}},
		{name: "swap two names, or two directories", verdict: found, effect: "names lie in sealed indexes: both directories give EIO",
			cases: []attempt{{harmed: func(s *state) []string {
				return append(s.tree.below("Zq-attrs"), s.tree.below("Zq-deep/Zq-2")...)
			}, do: func(i *intruder) {
				i.swap(i.now.of("Zq-attrs").index, i.now.of("Zq-deep/Zq-2").index)
			}}}},
		{name: "move a file or a directory elsewhere", verdict: found, effect: "where a file lies is said by sealed indexes alone: objects under another id are not looked at, and their own file gives EIO",
			cases: []attempt{{harmed: paths("Zq-twin-a"), do: func(i *intruder) {
				a := i.now.of("Zq-twin-a")
				i.write(strings.ReplaceAll(strings.Replace(a.header, a.header[6:8], "ab", 1), a.id.String(), "ab"+a.id.String()[2:]), i.read(a.header))
				i.remove(a.header)
			}}}},
		{name: "make a second copy of a file under a new name", verdict: harmless, effect: "nothing refers to it",
			cases: []attempt{{do: func(i *intruder) {
				o := i.now.of("Zq-extents")
				id := "ab" + o.id.String()[2:]
				for _, name := range append([]string{o.header}, o.extents...) {
					i.write("files/ab/"+strings.ReplaceAll(path.Base(name), o.id.String(), id), i.read(name))
				}
			}}}},
		{name: "bring back a deleted file", verdict: harmless, effect: "nothing refers to its objects",
			cases: []attempt{{do: func(i *intruder) {
				for _, gone := range []string{"Zq-gone", "Zq-gone-big"} {
					o := i.first.of(gone)
					for _, name := range append([]string{o.header}, o.extents...) {
						i.write(name, i.first.objects[name])
					}
				}
			}}}},
		{name: "put back root and its whole tree", verdict: pinned, effect: "without a pin it opens as what it was; with one it is refused for writing (exit code 15), and said when only looked at"},
		{name: "put back the whole vault", verdict: pinned, effect: "likewise: nothing on the store can tell it from what it was"},
	}
}

// journals are attacks on what no fold has taken in yet.
func journals() []attack {
	first := func(i *intruder) string { return i.names("journal/")[0] }
	last := func(i *intruder) string { return i.names("journal/")[1] }
	return []attack{
		{name: "change the journal before what was synced", verdict: found,
			effect: "not opened for writing (exit code 26); read-only it shows what was there before the damage, and says so",
			cases: []attempt{
				{name: "flip a bit", on: begun, shows: closed, readers: fs.ErrDamaged, object: true, warned: "damaged", do: func(i *intruder) {
					i.edit(first(i), func(b []byte) []byte { return flip(8*batches(b)[1] + 900)(b) })
				}},
				{name: "flip a bit of a frame", on: begun, shows: closed, readers: fs.ErrDamaged, object: true, warned: "damaged", do: func(i *intruder) {
					i.edit(first(i), func(b []byte) []byte { return flip(8*batches(b)[1] + 70)(b) })
				}},
				{name: "flip a bit of the prefix", on: begun, shows: closed, readers: fs.ErrDamaged, object: true, warned: "damaged", do: func(i *intruder) {
					i.edit(first(i), flip(8*17))
				}},
				{name: "drop the second batch", on: begun, shows: closed, readers: fs.ErrDamaged, object: true, warned: "damaged", do: func(i *intruder) {
					i.edit(first(i), func(b []byte) []byte {
						k := batches(b)
						clear(b[k[1]:k[2]])
						return b
					})
				}},
				{name: "swap two batches", on: begun, shows: closed, readers: fs.ErrDamaged, object: true, warned: "damaged", do: func(i *intruder) {
					i.edit(first(i), func(b []byte) []byte {
						k := batches(b)
						return slices.Concat(b[:k[1]], b[k[2]:k[3]], b[k[1]:k[2]], b[k[3]:])
					})
				}},
				{name: "flip a bit in the last segment", on: torn, shows: begun, readers: fs.ErrDamaged, object: true, warned: "damaged", do: func(i *intruder) {
					i.edit(last(i), func(b []byte) []byte { return flip(8*batches(b)[1] + 900)(b) })
				}},
				{name: "delete the first of two segments", on: torn, shows: closed, readers: fs.ErrDamaged, object: true, warned: "damaged", do: func(i *intruder) {
					i.remove(first(i))
				}},
				{name: "cut the first of two segments", on: torn, shows: closed, readers: fs.ErrDamaged, object: true, warned: "damaged", do: func(i *intruder) {
					i.edit(first(i), func(b []byte) []byte { return b[:batches(b)[1]] })
				}},
			}},
		{name: "change an extent that only the journal names", verdict: found, effect: "if a later batch calls it durable, the file gives EIO; else the journal ends before it, as after a power loss",
			cases: []attempt{
				{on: begun, harmed: paths("Zq-j1-big"), do: func(i *intruder) {
					i.edit(newExtent(i), flip(8*(prefix+2*record+7)))
				}},
			}},
		{name: "cut the journal's tail, or delete its last segment", verdict: pinned,
			effect: "looks as after a power loss before the last sync; with a pin, what was seen durable for five seconds is missed (exit code 15)"},
		{name: "put back an old journal segment", verdict: harmless, effect: "what it holds is folded, root's cut is behind it: it is removed",
			cases: []attempt{
				{name: "folded", on: afterwards, do: func(i *intruder) {
					for name, data := range i.torn.objects {
						if strings.HasPrefix(name, "journal/") {
							i.write(name, data)
						}
					}
				}},
				{name: "a copy under another name", on: begun, do: func(i *intruder) {
					name := first(i)
					n, err := blockcrypt.ParseName(name)
					must(i.t, err)
					n.Seq++
					i.write(n.String(), i.read(name))
				}},
				{name: "of another vault", on: begun, do: func(i *intruder) {
					other := newStranger(i.t)
					for name, data := range other {
						if strings.HasPrefix(name, "journal/") {
							i.write(name, data)
						}
					}
				}},
			}},
	}
}

func afterwards(f *fixture) *state { return f.third }

// batches returns the offsets of a segment's batches, and its length.
func batches(b []byte) (at []int) {
	for off := blockcrypt.SegmentPrefixSize; off < len(b); {
		f, err := blockcrypt.ParseFrame(b[off:])
		if err != nil {
			break
		}
		at = append(at, off)
		off += int(f.Padded())
	}
	return append(at, len(b))
}

// newExtent returns the extent that lies on the store and that no tree names.
func newExtent(i *intruder) string {
	for name := range i.begun.objects {
		if _, old := i.second.objects[name]; !old && strings.HasPrefix(name, "files/") {
			return name
		}
	}
	i.t.Fatal("no extent is named by the journal alone")
	return ""
}
