package audit

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Finding is something wrong with a log.
type Finding struct {
	File string // name of the segment, "" if none is to blame
	Seq  uint64 // number that the line should have
	What string
}

// String returns the finding as a sentence for people.
func (f Finding) String() string {
	if f.File == "" {
		return fmt.Sprintf("line %d: %s", f.Seq, f.What)
	}
	return fmt.Sprintf("%s: line %d: %s", f.File, f.Seq, f.What)
}

// Report is what [Verify] has seen.
type Report struct {
	Lines    uint64
	Head     Checkpoint // of the last line
	Findings []Finding  // none: all is well. At most [MaxFindings].
	Torn     int        // bytes of a line without its end: being written just now, or left by a crash
}

// MaxFindings is how many findings a report has at most.
const MaxFindings = 100

// Verify reads the whole log in dir and checks it: that each line follows the one before, and that the lines of the
// checkpoints are what they were. It may be called while the log is added to. A log whose beginning was taken away is
// well only if there is a checkpoint of the last line that is missing.
func Verify(dir string, checkpoints ...Checkpoint) (*Report, error) {
	all, err := segments(dir)
	if err != nil {
		return nil, fmt.Errorf("verify audit log: %w", err)
	}
	v := &verifier{checkpoints: map[uint64][]Checkpoint{}}
	for _, c := range checkpoints {
		v.checkpoints[c.Seq] = append(v.checkpoints[c.Seq], c)
	}
	for i := range all {
		if err := v.segment(&all[i], i == 0, i == len(all)-1); err != nil {
			return nil, fmt.Errorf("verify audit log: %w", err)
		}
	}
	for _, c := range checkpoints {
		if c.Seq > v.cursor.seq {
			v.find("", v.cursor.seq+1, fmt.Sprintf("lines are missing: the log ends before line %d, of which there is a checkpoint", c.Seq))
		}
	}
	v.report.Head = Checkpoint{Seq: v.cursor.seq, Hash: v.cursor.hash, Time: time.Now()}
	return &v.report, nil
}

type verifier struct {
	report      Report
	cursor      cursor
	checkpoints map[uint64][]Checkpoint
}

func (v *verifier) find(file string, seq uint64, what string) {
	if len(v.report.Findings) < MaxFindings {
		v.report.Findings = append(v.report.Findings, Finding{file, seq, what})
	}
}

// segment checks a segment. After a line that is wrong it goes on from what that line says.
func (v *verifier) segment(s *segment, first, last bool) error {
	name := filepath.Base(s.path)
	if first && s.first > 1 {
		v.cursor = cursor{seq: s.first - 1, unknown: true}
		if before := v.checkpoints[s.first-1]; len(before) > 0 {
			v.cursor.hash, v.cursor.unknown = before[0].Hash, false
		} else {
			v.find(name, 1, fmt.Sprintf("lines before %d are missing, and no checkpoint of line %d was given", s.first, s.first-1))
		}
	} else if s.first != v.cursor.seq+1 {
		v.find(name, v.cursor.seq+1, fmt.Sprintf("the segment before ends at line %d, this one begins at %d", v.cursor.seq, s.first))
		v.cursor.seq, v.cursor.unknown = s.first-1, true
	}
	torn, err := s.lines(func(text []byte, _ int64) error {
		v.line(name, text)
		return nil
	})
	if errors.Is(err, errTorn) {
		err = nil
		v.report.Torn = torn
		if !last {
			v.find(name, v.cursor.seq+1, fmt.Sprintf("%d bytes of a line without its end", torn))
		}
	}
	return err
}

func (v *verifier) line(file string, text []byte) {
	v.report.Lines++
	want := v.cursor.seq + 1
	l, err := v.cursor.step(text)
	if err != nil {
		v.find(file, want, err.Error())
		v.cursor.hash, v.cursor.seq, v.cursor.unknown = l.hash, max(want, l.entry.Seq), l.body == nil
		want = l.entry.Seq
	}
	for _, c := range v.checkpoints[want] {
		if c.Hash != l.hash {
			v.find(file, want, "it is not the line of which there is a checkpoint")
		}
	}
}
