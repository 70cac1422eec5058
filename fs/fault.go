package fs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"envfs/blockcrypt"
)

// objectError says which object of which file or directory could not be read as it should be.
type objectError struct {
	object string
	owner  blockcrypt.ID
	err    error
}

func (e *objectError) Error() string { return e.object + ": " + e.err.Error() }
func (e *objectError) Unwrap() error { return e.err }

// harms reports whether an error is about what lies on the store of one file or directory: that is damaged, missing or
// cannot be read. It concerns who needs that object, and nobody else.
func harms(err error) bool {
	for _, other := range []error{ErrStopped, context.Canceled, context.DeadlineExceeded, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, other) {
			return false
		}
	}
	_, object := errors.AsType[*objectError](err)
	return object || errors.Is(err, ErrDamaged)
}

// reported is an error that is in the log already.
type reported struct{ error }

func (r *reported) Unwrap() error { return r.error }

// faultLog remembers which damage is in the log, so that an object has one line there and not one for each read of it.
type faultLog struct {
	mu   sync.Mutex
	said map[string]time.Time
}

const (
	sayAgain = time.Hour // after so long a line is worth being repeated
	maxSaid  = 4096
)

// first reports whether key is to be logged.
func (l *faultLog) first(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.said[key]; ok && now.Sub(at) < sayAgain {
		return false
	}
	if l.said == nil || len(l.said) >= maxSaid {
		l.said = make(map[string]time.Time)
	}
	l.said[key] = now
	return true
}

// report counts and logs, by object, that something could not be read as it should be. Errors that say nothing about
// what lies on the store pass. FS.mu is not held.
func (f *FS) report(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, done := errors.AsType[*reported](err); done {
		return err
	}
	obj, known := errors.AsType[*objectError](err)
	if !known && !errors.Is(err, ErrDamaged) {
		return err
	}
	text := err.Error()
	f.errs.Add(1)
	f.lastFault.Store(&text)
	key := text
	args := []any{"cause", err}
	if known {
		key = obj.object + " " + obj.owner.String()
		if path := f.shownPath(obj.owner); path != "" {
			args = append(args, "path", path)
		}
	}
	if f.faults.first(key, f.clock.Now()) {
		f.logger.Error("cannot read", args...)
	}
	return &reported{err}
}

// shownPath is the path of a file or directory in use, if the log may show names and it can be told at once.
func (f *FS) shownPath(id blockcrypt.ID) string {
	if !f.opts.ShowNames {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.dirs[id]; d != nil {
		return pathOf(d)
	}
	ino := f.inodes[id]
	if ino == nil || ino.in == f.links || ino.in == f.nameless {
		return ""
	}
	e, err := f.entry(ino)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(pathOf(ino.in), "/") + "/" + e.Name
}

// pathOf returns the path of a directory in use. FS.mu is held.
func pathOf(d *dir) string {
	path := ""
	for ; d.parent != nil && d.parent.parent != nil; d = d.parent {
		path = "/" + d.name + path
	}
	if path == "" {
		path = "/"
	}
	return path
}

// missingIsDamage marks an object that is not there as damaged.
func missingIsDamage(err error) error { return fmt.Errorf("%w: %w", ErrDamaged, err) }
