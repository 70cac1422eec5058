package fs

import (
	"fmt"
	"time"
)

// OtherWriterError is [ErrOtherWriter], and tells who has the vault open for writing. It stands in root's sealed part, so
// only who holds a key learns it.
type OtherWriterError struct {
	User, Host string
	Since      time.Time // by the writer's clock
	LastCommit time.Time // when root was last replaced: of a shared store, when something was last published
}

func (e *OtherWriterError) Error() string {
	return fmt.Sprintf("%v: %s@%s has it open since %s, and has written last at %s", ErrOtherWriter, e.User, e.Host,
		e.Since.Format("2006-01-02 15:04"), e.LastCommit.Format("2006-01-02 15:04:05"))
}

// Unwrap returns ErrOtherWriter.
func (e *OtherWriterError) Unwrap() error { return ErrOtherWriter }

// errKeysMoved is why a vault is not opened whose keys another machine has changed at the same moment. Nothing was changed
// here.
var errKeysMoved = fmt.Errorf("%w: it has changed the keys while the vault was being opened here: try again", ErrOtherWriter)

// errBeaten is why a vault is not opened that another machine has opened at the same moment. Nothing was changed.
var errBeaten = fmt.Errorf("%w: it has replaced root while the vault was being opened here: try again", ErrOtherWriter)
