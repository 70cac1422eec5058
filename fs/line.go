package fs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// foundRoot is a root that lies on the store: the root itself, a copy in roots/, a sync tool's conflict copy.
type foundRoot struct {
	name string
	data []byte
	root *blockcrypt.Root
}

// writer returns the term that wrote the root.
func (r *foundRoot) writer() blockcrypt.Term {
	for _, t := range slices.Backward(r.root.Terms) {
		if t.LastRootSeq == r.root.Seq && t.LastRootR == r.root.R {
			return t
		}
	}
	return blockcrypt.Term{Host: unknownHost}
}

// unknownHost stands for the host of a term of which only journal segments are known.
const unknownHost = "an unknown host"

func (r *foundRoot) term(number uint64, tag blockcrypt.Tag) (blockcrypt.Term, bool) {
	for _, t := range r.root.Terms {
		if t.Number == number && t.Tag == tag {
			return t, true
		}
	}
	return blockcrypt.Term{}, false
}

func (r *foundRoot) moment() string { return goTime(r.root.Time).Format("2006-01-02 15:04:05 MST") }

// covers reports whether b is on the line that a continues: whether a's list knows the term that wrote b, up to b at
// least.
func covers(a, b *foundRoot) bool {
	w := b.writer()
	if t, ok := a.term(w.Number, w.Tag); ok {
		return b.root.Seq < t.LastRootSeq || b.root.Seq == t.LastRootSeq && b.root.R == t.LastRootR
	}
	// Terms that a has forgotten.
	return len(b.root.Terms) > 0 && len(a.root.Terms) > 0 && b.root.Terms[len(b.root.Terms)-1].Number < a.root.Terms[0].Number
}

// sameLine reports whether one of two roots continues the other.
func sameLine(a, b *foundRoot) bool { return covers(a, b) || covers(b, a) }

// tips returns the roots that no other of the list continues, the newest first.
func tips(list []*foundRoot) []*foundRoot {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *foundRoot) int { return cmp.Compare(b.root.Seq, a.root.Seq) })
	var ends []*foundRoot
	for _, r := range list {
		if !slices.ContainsFunc(ends, func(end *foundRoot) bool { return covers(end, r) }) {
			ends = append(ends, r)
		}
	}
	return ends
}

// since returns when r's line began to differ from that of other.
func since(r, other *foundRoot) time.Time {
	began := r.writer().Began
	for _, t := range slices.Backward(r.root.Terms) {
		if _, known := other.term(t.Number, t.Tag); known {
			break
		}
		began = t.Began
	}
	return goTime(began)
}

// maxForksNamed bounds how many sides of a fork an error names.
const maxForksNamed = 3

// forkError says who wrote what: the side that goes on, and those beside it.
func (s *survey) forkError() error {
	ends := tips(s.forks)
	var sides []string
	if len(ends) > 0 {
		sides = append(sides, side(s.chosen, ends[0]))
	}
	for i, r := range ends {
		if i == maxForksNamed {
			sides = append(sides, fmt.Sprintf("and %d more", len(ends)-i))
			break
		}
		sides = append(sides, side(r, s.chosen))
	}
	if len(s.locked) > 0 {
		sides = append(sides, namesOf(s.locked)+", sealed under a newer key epoch than that of root's key file")
	}
	return fmt.Errorf("%w: %s", ErrFork, strings.Join(sides, "; "))
}

// namesOf lists roots, the newest first.
func namesOf(list []unopened) string {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b unopened) int { return cmp.Compare(b.seq, a.seq) })
	var names []string
	for i, r := range list {
		if i == maxForksNamed {
			names = append(names, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

func side(r, other *foundRoot) string {
	w := r.writer()
	return fmt.Sprintf("%s@%s since %s, last %s (%s)", w.User, w.Host, since(r, other).Format("2006-01-02 15:04"), r.moment(), r.name)
}

// knows reports whether a term is on the line of the root that was chosen, or on what continues it on the store and is
// passed over because it is not complete.
func (s *survey) knows(number uint64, tag blockcrypt.Tag) bool {
	for _, r := range append([]*foundRoot{s.chosen}, s.skipped...) {
		if _, ok := r.term(number, tag); ok {
			return true
		}
	}
	return false
}

// lastTerm returns the highest number of a term of that line. A term has a number that no term before it has, so an
// unknown one with a higher number may continue the line; with another it is of another line.
func (s *survey) lastTerm() uint64 {
	var last uint64
	for _, r := range append([]*foundRoot{s.chosen}, s.skipped...) {
		for _, t := range r.root.Terms {
			last = max(last, t.Number)
		}
	}
	return last
}

// adoptTerms lets root's list know the terms whose work is given up, as closed where end says, and that nothing of what
// they left may be deleted: so that it is recognised as older from now on, and may be wanted again.
func (s *survey) adoptTerms(root *blockcrypt.Root, end func(*blockcrypt.Term)) {
	for _, r := range s.skipped {
		for _, given := range r.root.Terms {
			if given.Number < root.Terms[0].Number {
				continue // forgotten
			}
			t := findTerm(root, given)
			if t == nil {
				given.Closed = true
				end(&given)
				root.Terms = append(root.Terms, given)
			} else if t.LastRootSeq < given.LastRootSeq {
				t.LastRootSeq, t.LastRootR = given.LastRootSeq, given.LastRootR
			}
		}
	}
	if s.older {
		for i := range root.Terms {
			giveUp(&root.Terms[i], s.chosen.root.Seq)
		}
	}
	slices.SortStableFunc(root.Terms, func(a, b blockcrypt.Term) int { return cmp.Compare(a.Number, b.Number) })
	if n := len(root.Terms) - maxTerms; n > 0 {
		root.Terms = slices.Delete(root.Terms, 0, n)
	}
}

// adoptSegments lets root's list know the terms of which only segments are known and that were gone on without, like
// adoptTerms. Of terms that the chosen root does not know no batch counts, and none beyond where the journal has ended:
// another segment of theirs may come.
func (s *survey) adoptSegments(root *blockcrypt.Root, res *journal.Result, end func(*blockcrypt.Term)) {
	for _, x := range res.Foreign {
		_, known := s.chosen.term(x.Term, x.Tag)
		if known || !x.Authentic || !x.Batches {
			continue
		}
		given := blockcrypt.Term{Number: x.Term, Tag: x.Tag, Host: unknownHost, Closed: true}
		giveUp(&given, s.chosen.root.Seq)
		end(&given)
		if t := currentTerm(root, given); x.First <= t.LastBatch {
			t.LastBatch, t.LastHash = x.First-1, x.Continues.Hash
		}
	}
}
