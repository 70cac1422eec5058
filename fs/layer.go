package fs

import (
	"cmp"
	"slices"

	"github.com/google/btree"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
	"envfs/fs/journal"
)

// dirent is one name of a directory in a layer; a nil entry is a tombstone. Entries are immutable: a change puts a
// copy in their place, so that whoever found one may keep it without a lock.
type dirent struct {
	h     uint64
	name  string
	entry *blockcrypt.Entry
}

func direntLess(a, b dirent) bool {
	if a.h != b.h {
		return a.h < b.h
	}
	return a.name < b.name
}

// dirDelta holds what a layer says about the names of one directory.
type dirDelta struct {
	dir   *dir
	names *btree.BTreeG[dirent]

	rewritten int64 // names that the fold writes again, as far as they are counted in the layer's objectBytes
}

func newDirDelta(d *dir) *dirDelta {
	return &dirDelta{dir: d, names: btree.NewG(32, direntLess)}
}

// inlineRef tells where in the journal a block lies.
type inlineRef struct {
	segment string
	ref     blockcrypt.ContentRef
}

// fileDelta holds what a layer says about the content of one file.
type fileDelta struct {
	keys    []blockcrypt.WrappedDEK // nil: as in the header
	runs    filemap.Delta
	exts    []blockcrypt.ExtentInfo // by number
	inline  map[uint64]inlineRef    // of blocks whose newest run is RunJournal
	nextExt uint32                  // first extent number that this layer did not use; 0: says nothing
	pages   map[uint64]bool         // of the map that change, by number, beside the first
}

// ext returns what the layer says about an extent, nil if nothing.
func (fd *fileDelta) ext(number uint32) *blockcrypt.ExtentInfo {
	if i, ok := fd.findExt(number); ok {
		return &fd.exts[i]
	}
	return nil
}

func (fd *fileDelta) findExt(number uint32) (int, bool) {
	return slices.BinarySearchFunc(fd.exts, number, func(x blockcrypt.ExtentInfo, n uint32) int { return cmp.Compare(x.Number, n) })
}

func (fd *fileDelta) setExt(x blockcrypt.ExtentInfo) {
	i, ok := fd.findExt(x.Number)
	if ok {
		fd.exts[i] = x
		return
	}
	fd.exts = slices.Insert(fd.exts, i, x)
}

// place notes where in the journal a block lies.
func (fd *fileDelta) place(block uint64, ref inlineRef) {
	if fd.inline == nil {
		fd.inline = make(map[uint64]inlineRef)
	}
	fd.inline[block] = ref
}

// layer holds absolute values that hide what lies below: never operations. The active layer changes under FS.mu; the
// frozen one does not change any more.
type layer struct {
	dirs  map[blockcrypt.ID]*dirDelta
	files map[blockcrypt.ID]*fileDelta

	// drops are the files and directories that lost their last name: their objects die with the fold of this layer.
	drops map[blockcrypt.ID]*blockcrypt.Entry

	bytes                  int64 // estimate of the memory held
	inlineBytes            int64 // content in the journal that the fold has to move
	carried, carriedInline int64 // what of these no fold can take in, as it is about what is damaged

	objectBytes int64 // that the headers and indexes will take on the disk beside what they hold
}

func newLayer() *layer {
	return &layer{
		dirs:  make(map[blockcrypt.ID]*dirDelta),
		files: make(map[blockcrypt.ID]*fileDelta),
		drops: make(map[blockcrypt.ID]*blockcrypt.Entry),
	}
}

// get returns what the layer says about a name: known is false if nothing, the entry nil if there is none.
func (l *layer) get(d blockcrypt.ID, h uint64, name string) (e *blockcrypt.Entry, known bool) {
	dd := l.dirs[d]
	if dd == nil {
		return nil, false
	}
	item, ok := dd.names.Get(dirent{h: h, name: name})
	return item.entry, ok
}

// getID is get for a name of which only the hash and the file it stands for are known.
func (l *layer) getID(d blockcrypt.ID, h uint64, id blockcrypt.ID) (e *blockcrypt.Entry) {
	dd := l.dirs[d]
	if dd == nil {
		return nil
	}
	dd.names.AscendGreaterOrEqual(dirent{h: h}, func(item dirent) bool {
		if item.h == h && item.entry != nil && item.entry.ID == id {
			e = item.entry
		}
		return item.h == h && e == nil
	})
	return e
}

// hides reports whether the layer says something about the name.
func (l *layer) hides(d blockcrypt.ID, h uint64, name string) bool {
	_, known := l.get(d, h, name)
	return known
}

// Memory that an entry or a tombstone, a file's delta, an extent, a run, a file's first block in the journal and each
// further one take, for the layer's budget.
const (
	entryCost   = 352
	fileCost    = 320
	extentCost  = 160
	runCost     = 64
	inlinesCost = 448
	inlineCost  = 64
)

// put records an entry or a tombstone (e nil).
func (l *layer) put(d *dir, h uint64, name string, e *blockcrypt.Entry) {
	dd := l.dirs[d.id]
	if dd == nil {
		dd = newDirDelta(d)
		l.dirs[d.id] = dd
	}
	if _, had := dd.names.ReplaceOrInsert(dirent{h: h, name: name, entry: e}); !had {
		l.bytes += entryCost + int64(2*len(name))
		l.countName(dd, d.stored)
	}
	if e != nil {
		l.bytes += int64(xattrSize(e.Xattrs))
	}
}

// file returns the layer's delta of a file, making it if need be.
func (l *layer) file(id blockcrypt.ID) *fileDelta {
	fd := l.files[id]
	if fd == nil {
		fd = new(fileDelta)
		l.files[id] = fd
		l.bytes += fileCost
		l.objectBytes += objectCost
	}
	return fd
}

// apply records a delta of a file's content. Inline blocks come with where they lie, by the index in their batch; at is
// nil if that is not known yet.
func (l *layer) apply(d *journal.Delta, at *journal.Appended) {
	fd := l.file(d.ID)
	switch d.Kind {
	case journal.SetKeys:
		fd.keys = d.Keys
	case journal.SetExtent:
		before := len(fd.exts)
		fd.setExt(*d.Extent)
		l.bytes += int64(len(fd.exts)-before) * extentCost
		fd.nextExt = max(fd.nextExt, d.Extent.Number+1)
	case journal.SetRuns:
		for _, r := range d.Runs {
			before := fd.runs.Len()
			fd.runs.Set(r)
			l.bytes += int64(fd.runs.Len()-before) * runCost
			l.countPages(fd, r)
			if r.Kind == blockcrypt.RunJournal {
				l.inlineBytes += blockcrypt.BlockSize
				if fd.inline == nil {
					l.bytes += inlinesCost
				}
				l.bytes += inlineCost
				if at != nil {
					fd.place(r.Start, inlineRef{segment: at.Segment, ref: at.Contents[r.Slot]})
				}
			}
		}
	}
}

// fresh returns the bytes of memory, and of content in the journal, that a fold can free.
func (l *layer) fresh() (bytes, inline int64) {
	return l.bytes - l.carried, l.inlineBytes - l.carriedInline
}

// empty reports whether the layer says nothing.
func (l *layer) empty() bool { return len(l.dirs) == 0 && len(l.files) == 0 && len(l.drops) == 0 }

// merge lays over, which is newer, on top of l: what a failed fold does with the two layers.
func (l *layer) merge(over *layer) {
	for id, dd := range over.dirs {
		if l.dirs[id] == nil {
			l.dirs[id] = newDirDelta(dd.dir)
		}
		dd.names.Ascend(func(item dirent) bool {
			l.dirs[id].names.ReplaceOrInsert(item)
			return true
		})
	}
	for id, od := range over.files {
		fd := l.files[id]
		if fd == nil {
			l.files[id] = od
			continue
		}
		if od.keys != nil {
			fd.keys = od.keys
		}
		fd.runs.Merge(&od.runs)
		for _, x := range od.exts {
			fd.setExt(x)
		}
		for block, ref := range od.inline {
			fd.place(block, ref)
		}
		fd.nextExt = max(fd.nextExt, od.nextExt)
	}
	for id, e := range over.drops {
		l.drops[id] = e
	}
	l.bytes += over.bytes
	l.inlineBytes += over.inlineBytes
	l.objectBytes += over.objectBytes
	l.carried += over.carried
	l.carriedInline += over.carriedInline
}

func xattrSize(xs []blockcrypt.Xattr) (n int) {
	for _, x := range xs {
		n += len(x.Name) + len(x.Value)
	}
	return n
}
