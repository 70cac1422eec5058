package fs

import (
	"errors"

	"envfs/remote"
)

// The errors that callers act on. Errors of this package wrap one of them; fs/fusefs maps them to errno.
var (
	ErrNotExist    = errors.New("no such file or directory")
	ErrExist       = errors.New("file exists")
	ErrNotDir      = errors.New("not a directory")
	ErrIsDir       = errors.New("is a directory")
	ErrNotEmpty    = errors.New("directory not empty")
	ErrNameTooLong = errors.New("file name too long")
	ErrInvalid     = errors.New("invalid argument")
	ErrUnsupported = errors.New("operation not supported")
	ErrReadOnly    = errors.New("read-only file system")
	ErrNoSpace     = remote.ErrNoSpace // whether found out beforehand or by the store
	ErrTooBig      = errors.New("file too large")
	ErrTooManyLink = errors.New("too many links")
	ErrPermission  = errors.New("operation not permitted")
	ErrNoXattr     = errors.New("no such attribute")
	ErrRange       = errors.New("result too large")
	ErrXattrSpace  = errors.New("too many extended attributes")
	ErrNoData      = errors.New("no data or hole beyond this offset") // SEEK_DATA, SEEK_HOLE: ENXIO
	ErrStale       = errors.New("file is gone")
	ErrDamaged     = errors.New("damaged or altered")                 // EIO
	ErrStopped     = errors.New("writing has stopped after an error") // EIO
)

// The errors of opening a vault, each with its exit code (DESIGN section 14).
var (
	ErrNoVault     = errors.New("no vault there")                                    // 10
	ErrHalfMade    = errors.New("the making of this vault was interrupted")          // 10
	ErrRootLost    = errors.New("the vault's root is missing")                       // 10
	ErrInUse       = errors.New("vault is in use")                                   // 11
	ErrOtherWriter = errors.New("another machine may be writing this vault")         // 11
	ErrIncomplete  = errors.New("incomplete copy of a vault")                        // 14
	ErrFork        = errors.New("two machines wrote to this vault")                  // 15
	ErrSetBack     = errors.New("older than what was seen here before")              // 15
	ErrAhead       = errors.New("the destination has changes that the source lacks") // 15
	ErrOvertaken   = errors.New("another machine has taken over this vault")         // 15
	ErrOtherVault  = errors.New("other than what was seen here before")              // 15
	ErrVersion     = errors.New("made by a newer version of envfs")                  // 1
)
