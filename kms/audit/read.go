package audit

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Read calls f with each entry of the log in dir, in their order, and its JSON as it stands there. It checks nothing
// but that the lines are lines; see [Verify]. An error that f returns ends it. It may be called while the log is added
// to.
func Read(dir string, f func(e *Entry, body []byte) error) error {
	all, err := segments(dir)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	for i := range all {
		n := all[i].first
		_, err := all[i].lines(func(text []byte, _ int64) error {
			l, err := parseLine(text)
			if err != nil {
				return fmt.Errorf("read audit log: %s: line %d: %w: %w", filepath.Base(all[i].path), n, err, ErrAltered)
			}
			n++
			return f(&l.entry, l.body)
		})
		if err != nil && !errors.Is(err, errTorn) {
			return err
		}
	}
	return nil
}
