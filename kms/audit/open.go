package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// ErrAltered says that a log was changed by something else than a crash.
var ErrAltered = errors.New("audit log was altered")

// Torn is what a crash has left behind the last whole line: the beginning of lines whose calls were not answered.
type Torn struct {
	Bytes int64  // 0: there was nothing
	File  string // where it was put aside
}

// Open opens the log in the directory dir, which is made if it is missing. What a crash has left of lines that were not
// answered is put aside. If more than that is wrong with the newest segment, it returns [ErrAltered].
func Open(dir string) (*Log, Torn, error) {
	l := &Log{dir: dir, wake: make(chan struct{}, 1), done: make(chan struct{})}
	torn, err := l.load()
	if err != nil {
		return nil, torn, fmt.Errorf("open audit log %s: %w", dir, err)
	}
	go l.run()
	return l, torn, nil
}

// load finds the end of the log.
func (l *Log) load() (torn Torn, err error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return torn, err
	}
	if err := syncDir(filepath.Dir(l.dir)); err != nil {
		return torn, err
	}
	all, err := segments(l.dir)
	if err != nil || len(all) == 0 {
		return torn, err
	}
	last := &all[len(all)-1]
	c := cursor{seq: last.first - 1, unknown: last.first > 1}
	if len(all) > 1 {
		if c, err = endOf(&all[len(all)-2]); err != nil {
			return torn, err
		}
		if c.seq+1 != last.first {
			return torn, fmt.Errorf("%s follows line %d: %w", filepath.Base(last.path), c.seq, ErrAltered)
		}
	}
	bad := c.read(last)
	if bad != nil && !errors.Is(bad, errLine) {
		return torn, bad
	}
	if l.file, err = os.OpenFile(last.path, os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return torn, err
	}
	if torn, err = l.setAside(&c, bad); err != nil {
		return torn, errors.Join(err, l.file.Close())
	}
	l.size = c.end
	l.head = Checkpoint{Seq: c.seq, Hash: c.hash}
	return torn, nil
}

// setAside moves what lies behind the last good line to a file beside the log.
func (l *Log) setAside(c *cursor, bad error) (torn Torn, err error) {
	st, err := l.file.Stat()
	if err != nil {
		return torn, err
	}
	torn.Bytes = st.Size() - c.end
	if torn.Bytes == 0 {
		return torn, nil
	}
	if torn.Bytes > batchSize {
		return torn, fmt.Errorf("%s behind line %d, and that is more than a crash leaves: %v: %w", filepath.Base(l.file.Name()), c.seq, bad, ErrAltered)
	}
	torn.File = filepath.Join(l.dir, fmt.Sprintf("torn-%020d-%d", c.seq+1, time.Now().UnixNano()))
	f, err := os.OpenFile(torn.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return torn, err
	}
	_, err = io.Copy(f, io.NewSectionReader(l.file, c.end, torn.Bytes))
	if err = errors.Join(err, f.Sync(), f.Close(), syncDir(l.dir)); err != nil {
		return torn, err
	}
	return torn, errors.Join(l.file.Truncate(c.end), l.file.Sync())
}

// endOf returns the end of a segment without checking it.
func endOf(s *segment) (c cursor, err error) {
	c = cursor{seq: s.first - 1, unknown: true}
	_, err = s.lines(func(text []byte, _ int64) error {
		l, err := parseLine(text)
		c.hash, c.seq, c.unknown = l.hash, c.seq+1, false
		if err != nil {
			return fmt.Errorf("%s: line %d: %v: %w", filepath.Base(s.path), c.seq, err, ErrAltered)
		}
		return nil
	})
	if errors.Is(err, errTorn) {
		err = fmt.Errorf("%s: %v: %w", filepath.Base(s.path), err, ErrAltered)
	}
	return c, err
}

// cursor is a place in the chain.
type cursor struct {
	seq     uint64
	hash    hash
	unknown bool  // the hash is not known, as the lines before are not there
	end     int64 // in the segment, behind the last good line
}

// errLine says that a line is not the one that follows.
var errLine = errors.New("not the line that follows")

// step checks that text is the next line.
func (c *cursor) step(text []byte) (line, error) {
	l, err := parseLine(text)
	if err != nil {
		return l, fmt.Errorf("%w: %w", errLine, err)
	}
	if l.entry.Seq != c.seq+1 {
		return l, fmt.Errorf("%w: it has number %d", errLine, l.entry.Seq)
	}
	if !c.unknown && chain(c.hash, l.body) != l.hash {
		return l, fmt.Errorf("%w: its hash is wrong", errLine)
	}
	c.seq, c.hash, c.unknown = c.seq+1, l.hash, false
	return l, nil
}

// read moves c to the last good line of a segment, and returns an [errLine] if there is more.
func (c *cursor) read(s *segment) error {
	_, err := s.lines(func(text []byte, end int64) error {
		if _, err := c.step(text); err != nil {
			return err
		}
		c.end = end
		return nil
	})
	if errors.Is(err, errTorn) {
		return fmt.Errorf("%w: %w", errLine, err)
	}
	return err
}

// Has reports whether a line with the number from, or behind it, tells of the request id. It must not be called while
// lines are added.
func (l *Log) Has(from uint64, id string) (bool, error) {
	all, err := segments(l.dir)
	if err != nil {
		return false, fmt.Errorf("search audit log: %w", err)
	}
	found := false
	for i := range all {
		if i+1 < len(all) && all[i+1].first <= from {
			continue
		}
		_, err := all[i].lines(func(text []byte, _ int64) error {
			line, err := parseLine(text)
			found = found || err == nil && line.entry.ID == id
			return nil
		})
		if err != nil {
			return false, fmt.Errorf("search audit log: %w", err)
		}
	}
	return found, nil
}
