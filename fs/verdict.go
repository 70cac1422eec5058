package fs

import (
	"errors"
	"fmt"
	"strings"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// judge says what it means that another root than own was chosen, or that there is something newer.
func (f *FS) judge(s *survey, newest *foundRoot, complete bool) error {
	why := ErrIncomplete
	if s.same {
		why = ErrSetBack
	}
	if s.newer && s.chosen.root.KeyFile != s.own.root.KeyFile && !f.readOnly {
		return fmt.Errorf("%w: the newest root, of %s (%s), names a newer key file: put it in the place of root",
			why, s.chosen.moment(), s.chosen.name)
	}
	if len(s.locked) > 0 && !s.forked {
		// Going on under the older keys could bring back who was shut out.
		err := fmt.Errorf("%w: newer than %s (%s) are roots under a newer key file: put the newest in the place of root: %s",
			why, newest.moment(), newest.name, namesOf(s.locked))
		if !f.readOnly {
			return err
		}
		defer f.openedOlder(err) // what is said below says more
	}
	if s.newer && !s.older {
		f.logger.Warn("root was set back; going on from the newer one", "root", s.own.moment(), "newer", s.chosen.moment(), "name", s.chosen.name)
		return nil
	}
	if !s.older {
		return nil
	}
	var err error
	switch {
	case !complete:
		err = fmt.Errorf("%w: no moment is complete, the newest is %s (%s)", why, newest.moment(), newest.name)
	case len(s.skipped) == 0:
		err = fmt.Errorf("%w: roots newer than %s (%s) are not whole: %s", why, newest.moment(), newest.name, namesOf(s.torn))
	default:
		err = fmt.Errorf("%w: the newest moment is %s (%s), the newest complete one %s (%s)", why,
			newest.moment(), newest.name, s.chosen.moment(), s.chosen.name)
	}
	if !f.readOnly && !f.opts.AcceptOlder {
		return err
	}
	f.openedOlder(err)
	return nil
}

// openedOlder notes why what is shown is not the newest.
func (f *FS) openedOlder(why error) {
	if f.older == "" { // the first says most
		f.older = why.Error()
	}
	f.logger.Warn("opened at an older moment", "cause", why)
}

// judgeJournal says whether the vault can be written on from where the journal has ended. If it is, although something
// newer is missing, the survey knows then that this is an older moment.
func (f *FS) judgeJournal(res *journal.Result, sv *survey) error {
	alien := f.judgeForeign(res, sv)
	b := res.Break
	if b == nil || !b.Damage {
		if alien.gap == nil && len(alien.names) == 0 {
			return nil
		}
	}
	whole := fmt.Sprintf("whole is %s (%s) and what of the journal follows it", sv.chosen.moment(), sv.chosen.name)
	var err error
	switch {
	case len(alien.names) > 0:
		err = fmt.Errorf("%w: journal segments of a term that root does not know, or from after its end: %s; %s",
			alien.why, strings.Join(alien.names, ", "), whole)
	case sv.same && !f.opts.AcceptOlder:
		err = fmt.Errorf("replay journal: %w: %s", ErrDamaged, journalEnd(res, alien.gap))
		if f.readOnly {
			f.older, f.journalDamage = err.Error(), err.Error()
			f.logger.Error("the journal is damaged; what follows is missing", "cause", err)
			return nil
		}
	default:
		err = fmt.Errorf("%w: the journal ends early: %s; %s", ErrIncomplete, journalEnd(res, alien.gap), whole)
	}
	if !f.readOnly && !f.opts.AcceptOlder {
		return err
	}
	f.openedOlder(err)
	sv.older = true
	return nil
}

// journalEnd says how the journal ends.
func journalEnd(res *journal.Result, gap *journal.Foreign) string {
	if b := res.Break; b != nil && b.Damage {
		return fmt.Sprintf("%s at %d: %s", b.Segment, b.Offset, b.Reason)
	}
	return fmt.Sprintf("after batch %d; %s begins with batch %d", res.End.Number, gap.Name, gap.First)
}

// aliens are the segments that tell of work which what was replayed does not hold.
type aliens struct {
	names []string // somebody else's, or from after root; the first few
	why   error
	gap   *journal.Foreign // one of our line, behind others that are missing
}

// judgeForeign finds out what segments that are not part of the chain tell.
//
// A term is in root before its first segment. So where the vault lies, a segment of a term that root does not know is
// another machine's. In a copy, whose root may be older than the rest, it can be the same line's; but not if its term's
// number is one that this line has given to another term. Of a shared store only segments that are here come so far.
func (f *FS) judgeForeign(res *journal.Result, sv *survey) (a aliens) {
	last := sv.lastTerm()
	alien := func(x *journal.Foreign, why error) {
		if a.why == nil || errors.Is(why, ErrFork) {
			a.why = why
		}
		if len(a.names) < maxForksNamed {
			a.names = append(a.names, fmt.Sprintf("%s (term %d)", x.Name, x.Term))
		}
	}
	for i := range res.Foreign {
		x := &res.Foreign[i]
		filled := x.Authentic && x.Batches
		ours := sv.knows(x.Term, x.Tag)
		switch {
		case f.shared != nil && !f.opts.AcceptOlder && filled && f.givenUp(x):
			alien(x, ErrFork) // another machine gave it up, and this one has it still
		case f.givenUp(x), ours && sv.older: // that is known
		case f.shared != nil && ours && x.Retired && x.Batches && f.pastEnd(x):
			alien(x, ErrFork) // of what was not published here before whoever took over has changed the keys, too
		case ours && filled && f.pastEnd(x):
			// Where the vault lies, whoever ended the term had set this aside: somebody has written since.
			alien(x, forkIf(sv.same))
		case ours && x.Fork:
			alien(x, ErrFork)
		case ours:
			if filled && !x.Lost && x.First > res.End.Number && (a.gap == nil || x.First < a.gap.First) {
				a.gap = x
			}
		case filled:
			alien(x, forkIf(sv.same || x.Term <= last))
		case !x.Authentic && !x.Retired && !sv.same && x.Term > last:
			alien(x, ErrIncomplete) // torn, but its name tells that its term has begun
		}
	}
	return a
}

func forkIf(fork bool) error {
	if fork {
		return ErrFork
	}
	return ErrIncomplete
}

// givenUp reports whether a segment holds what came after the end of a term that was given up for an older moment.
func (f *FS) givenUp(x *journal.Foreign) bool {
	t := findTerm(f.root, blockcrypt.Term{Number: x.Term, Tag: x.Tag})
	if t == nil {
		return false
	}
	_, ok := givenUpFrom(t)
	return ok && f.pastEnd(x)
}

// pastEnd reports whether a segment begins behind the end of its term.
func (f *FS) pastEnd(x *journal.Foreign) bool {
	last, ended := endOf(f.root, x.Term, x.Tag)
	return ended && x.First > last
}
