package crash

import (
	"fmt"
	"strings"
)

// stepKind says what a step promises.
type stepKind uint8

const (
	stepOp    stepKind = iota // an operation that is there after kill -9 once it has returned, or not at all
	stepWrite                 // a write: may be there once it was asked for
	stepFlush                 // close: the file's writes survive kill -9
	stepSync                  // fsync: the file's writes, and all operations before, survive a power loss
	stepAll                   // sync of everything, or a fold: the same for all files
	stepKeys                  // a change of keys: an operation that carries all before it, and is durable at once
	stepNote                  // promises nothing
)

// op reports whether a step is there or not after a crash.
func (k stepKind) op() bool { return k == stepOp || k == stepKeys }

// step is something that a workload did. The log's lengths when it began and when it had returned tell whether it had
// before a crash.
type step struct {
	what       string
	kind       stepKind
	begin, end int
	file       int // model inode of a write, flush or sync
	covers     int // of what the step promises: the steps before this one
	tree       *tree
	published  bool // others see it when it has returned
}

// history is what a workload did, and what the file system looked like after each step.
type history struct {
	steps   []step
	commits map[uint64]bool // contents of a database that transactions have left
	shared  bool            // others flush meanwhile, so that a write may be there up to any of its blocks
}

// add appends a step.
func (h *history) add(s step) { h.steps = append(h.steps, s) }

// promised is what must be there after a crash.
type promised struct {
	op    int         // index of the last step of kind stepOp that must be there
	all   int         // writes of all files before this step must be there
	files map[int]int // writes of a file before this step must be there
}

// promise returns what must be there after a crash when the log had p operations.
func (h *history) promise(p int, power bool) promised {
	pr := promised{files: make(map[int]int)}
	covered := 0
	for i := range h.steps {
		s := &h.steps[i]
		if s.end > p {
			continue
		}
		switch {
		case s.kind == stepAll:
			covered, pr.all = max(covered, s.covers), max(pr.all, s.covers)
		case s.kind == stepKeys:
			covered, pr.all = max(covered, i+1), max(pr.all, s.covers)
		case s.kind == stepSync:
			covered = max(covered, s.covers)
			pr.files[s.file] = max(pr.files[s.file], s.covers)
		case !power && s.kind == stepFlush:
			pr.files[s.file] = max(pr.files[s.file], s.covers)
		case !power && s.kind == stepOp:
			covered = max(covered, i+1)
		}
	}
	for i := range covered {
		if h.steps[i].kind.op() {
			pr.op = i
		}
	}
	return pr
}

// last tells of the last steps.
func (h *history) last(n int) (what []string) {
	for _, s := range h.steps[max(0, len(h.steps)-n):] {
		what = append(what, s.what)
	}
	return what
}

// publication returns what others must see when the record had p operations.
func (h *history) publication(p int) promised {
	pr := promised{files: make(map[int]int)}
	for i := range h.steps {
		if s := &h.steps[i]; s.published && s.end <= p {
			pr.all = max(pr.all, s.covers)
			if s.kind == stepKeys {
				pr.all = i + 1
			}
		}
	}
	for i := range pr.all {
		if h.steps[i].kind.op() {
			pr.op = i
		}
	}
	return pr
}

// match finds the moment of history that got is, of those that a crash may leave when the log had p operations. It
// returns the step and the tree.
func (h *history) match(got *tree, p int, power bool) (int, *tree, error) {
	return h.find(got, p, h.promise(p, power))
}

// find is match under a promise.
func (h *history) find(got *tree, p int, pr promised) (int, *tree, error) {
	last := pr.op
	var tried []int
	for k := pr.op; k < len(h.steps); k = h.nextOp(k) {
		if k > pr.op && h.steps[k].begin >= p {
			break
		}
		last = k
		tried = append(tried, k)
	}
	// The newest first: that is what is there most often.
	for i := len(tried) - 1; i >= 0; i-- {
		k := tried[i]
		t := h.steps[k].tree
		versions := h.versions(k, p, pr)
		if t.equal(got, versions) {
			return k, t.chosen(got, versions), nil
		}
	}
	return 0, nil, h.mismatch(got, p, pr, tried, last)
}

func (h *history) nextOp(k int) int {
	for k++; k < len(h.steps) && !h.steps[k].kind.op(); k++ {
	}
	return k
}

// versions returns what each file that was written after operation k and before the next one may hold.
func (h *history) versions(k, p int, pr promised) map[int][]*inode {
	versions := make(map[int][]*inode)
	for i := k + 1; i < h.nextOp(k); i++ {
		s := &h.steps[i]
		if s.kind != stepWrite || s.begin > p {
			continue
		}
		if versions[s.file] == nil {
			versions[s.file] = []*inode{h.steps[k].tree.inodes[s.file]}
		}
		n := s.tree.inodes[s.file]
		if i < max(pr.all, pr.files[s.file]) { // nothing older will do
			versions[s.file] = []*inode{n}
			continue
		}
		if h.shared {
			versions[s.file] = append(versions[s.file], parts(h.steps[i-1].tree.inodes[s.file], n)...)
		}
		versions[s.file] = append(versions[s.file], n)
	}
	return versions
}

// parts returns what lies between a file and what a write has made of it, block by block.
func parts(old, now *inode) (list []*inode) {
	for k := 1; k < len(now.data.pages); k++ {
		list = append(list, now.edit(func(n *inode) {
			n.data.size = max(old.data.size, min(now.data.size, int64(k)*pageSize))
			n.data.pages = make([]*page, (n.data.size+pageSize-1)/pageSize)
			copy(n.data.pages, old.data.pages)
			copy(n.data.pages, now.data.pages[:k])
		}))
	}
	return list
}

// chosen returns t with those versions of the files that got has.
func (t *tree) chosen(got *tree, versions map[int][]*inode) *tree {
	c := t.clone()
	for path, id := range t.names {
		if versions[id] != nil {
			c.inodes[id] = got.at(path)
		}
	}
	return c.seal()
}

// mismatch tells how got differs from the moment that it resembles most.
func (h *history) mismatch(got *tree, p int, pr promised, tried []int, last int) error {
	best, bestK := []string(nil), -1
	for _, k := range tried {
		if lines := h.steps[k].tree.diff(got, h.versions(k, p, pr)); bestK < 0 || len(lines) < len(best) {
			best, bestK = lines, k
		}
	}
	const show = 12
	if len(best) > show {
		best = append(best[:show], "...")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the tree is no moment of history from step %d (%s) to step %d (%s); nearest is step %d (%s):\n\t%s\nsteps:\n",
		pr.op, h.steps[pr.op].what, last, h.steps[last].what, bestK, h.steps[bestK].what, strings.Join(best, "\n\t"))
	for i := max(0, bestK-15); i < min(len(h.steps), last+6); i++ {
		s := &h.steps[i]
		if s.begin > p {
			break
		}
		done := "returned"
		if s.end > p {
			done = "cut off"
		}
		fmt.Fprintf(&b, "\t%d: %s (log %d to %d, %s)\n", i, s.what, s.begin, s.end, done)
	}
	return fmt.Errorf("%s", b.String())
}
