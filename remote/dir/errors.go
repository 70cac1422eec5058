package dir

import (
	"errors"
	"fmt"
	"syscall"

	"envfs/remote"
)

var (
	errNotRegular = fmt.Errorf("%w: not a regular file", remote.ErrNotObject)
	errReplaced   = errors.New("is only ever replaced")
	errClosed     = errors.New("store is closed")
)

// fail names operation and object in err, and adds the sentinel of package remote that callers act on.
func fail(op, name string, err error, writing bool) error {
	if err == nil {
		return nil
	}
	if s := sentinel(err, writing); s != nil && !errors.Is(err, s) {
		return fmt.Errorf("%s %s: %w: %w", op, name, s, err)
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

// sentinel returns the error of package remote that a system's error means, or nil.
func sentinel(err error, writing bool) error {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return nil
	}
	switch number {
	case syscall.ENOENT:
		return remote.ErrNotExist
	case syscall.EEXIST:
		return remote.ErrExist
	case syscall.ENOSPC, syscall.EDQUOT:
		return remote.ErrNoSpace
	case syscall.ELOOP: // links are not followed
		return remote.ErrNotObject
	case syscall.EROFS:
		return remote.ErrReadOnly
	case syscall.EACCES, syscall.EPERM:
		if writing {
			return remote.ErrReadOnly
		}
	}
	return nil
}
