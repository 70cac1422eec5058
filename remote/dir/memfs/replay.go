package memfs

// replay follows a log and keeps apart what is durable and what is not.
type replay struct {
	disk    image    // what is durable
	unsync  [][]data // by inode id: what was done to its content since
	dirty   []int    // inodes with any
	names   []*Op    // changes of names that are not durable, in order
	byFsync bool     // NamesOnSync
}

// data is a change of a file's content.
type data struct {
	op    *Op
	state dataState
}

type dataState uint8

const (
	pending  dataState = iota
	doubtful           // a sync failed: no later one makes it durable
	durable            // but comes after something doubtful, so it waits in line
)

// newReplay replays ops on base, whose ids and those of ops are below limit.
func newReplay(base image, ops []Op, limit int, byFsync bool) *replay {
	r := &replay{disk: base.copy(limit), unsync: make([][]data, limit), byFsync: byFsync}
	for i := range ops {
		r.apply(&ops[i])
	}
	return r
}

func (r *replay) apply(op *Op) {
	switch op.Kind {
	case OpCreate, OpMkdir:
		n := op.made
		if n.dir {
			n.entries = make(map[string]int)
		}
		r.disk.nodes[op.ino] = n
		r.names = append(r.names, op)
	case OpRename, OpLink, OpRemove:
		r.names = append(r.names, op)
	case OpWrite, OpTruncate:
		if len(r.unsync[op.ino]) == 0 {
			r.dirty = append(r.dirty, op.ino)
		}
		r.unsync[op.ino] = append(r.unsync[op.ino], data{op: op})
	case OpSync:
		r.syncFile(op.ino, op.Failed)
		if r.byFsync && !op.Failed {
			r.keepNames(func(*Op) bool { return true })
		}
	case OpSyncDir:
		if !op.Failed {
			r.keepNames(func(n *Op) bool { return n.at.dir == op.ino || n.Kind == OpRename && n.to.dir == op.ino })
		}
	case OpSyncFS:
		for _, ino := range r.dirty {
			r.syncFile(ino, op.Failed)
		}
		if !op.Failed {
			r.keepNames(func(*Op) bool { return true })
		}
		r.dirty = r.stillDirty()
	}
}

func (r *replay) stillDirty() []int {
	kept := r.dirty[:0]
	for _, ino := range r.dirty {
		if len(r.unsync[ino]) > 0 {
			kept = append(kept, ino)
		}
	}
	return kept
}

// syncFile makes a file's content durable, or doubtful if the sync failed.
func (r *replay) syncFile(ino int, failed bool) {
	list := r.unsync[ino]
	for i := range list {
		if list[i].state != pending {
			continue
		}
		list[i].state = durable
		if failed {
			list[i].state = doubtful
		}
	}
	n := 0
	for n < len(list) && list[n].state == durable {
		r.disk.change(list[n].op)
		n++
	}
	if n == len(list) {
		r.unsync[ino] = list[:0]
	} else {
		r.unsync[ino] = list[n:]
	}
}

// change carries out a change of content.
func (img image) change(op *Op) {
	c := &img.nodes[op.ino].data
	if op.Kind == OpTruncate {
		c.truncate(op.Off)
	} else {
		c.write(op.Off, op.Data)
	}
}

// rename carries out a change of names.
func (img image) rename(op *Op) {
	at := img.nodes[op.at.dir].entries
	switch op.Kind {
	case OpCreate, OpMkdir, OpLink:
		at[op.at.name] = op.ino
	case OpRemove:
		delete(at, op.at.name)
	case OpRename:
		delete(at, op.at.name)
		img.nodes[op.to.dir].entries[op.to.name] = op.ino
	}
}

// keepNames makes durable the changes that want selects, and those before them that concern the same names.
func (r *replay) keepNames(want func(*Op) bool) {
	keep := make([]bool, len(r.names))
	needed := make(map[key]bool)
	any := false
	for i := len(r.names) - 1; i >= 0; i-- {
		op := r.names[i]
		if !want(op) && !needed[op.at] && !(op.Kind == OpRename && needed[op.to]) {
			continue
		}
		keep[i], any = true, true
		needed[op.at] = true
		if op.Kind == OpRename {
			needed[op.to] = true
		}
	}
	if !any {
		return
	}
	rest := r.names[:0]
	for i, op := range r.names {
		if keep[i] {
			r.disk.rename(op)
		} else {
			rest = append(rest, op)
		}
	}
	r.names = rest
}
