package fusefs

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/fs"
)

// errnos is the one table of which error becomes which errno; the first that fits counts, so the frequent ones stand
// first.
var errnos = [...]struct {
	err   error
	errno syscall.Errno
}{
	{fs.ErrNotExist, syscall.ENOENT},
	{fs.ErrNoXattr, syscall.ENODATA},
	{fs.ErrExist, syscall.EEXIST},
	{fs.ErrUnsupported, syscall.EOPNOTSUPP},
	{fs.ErrNoData, syscall.ENXIO},
	{fs.ErrNotDir, syscall.ENOTDIR},
	{fs.ErrIsDir, syscall.EISDIR},
	{fs.ErrNotEmpty, syscall.ENOTEMPTY},
	{fs.ErrNameTooLong, syscall.ENAMETOOLONG},
	{fs.ErrInvalid, syscall.EINVAL},
	{fs.ErrReadOnly, syscall.EROFS},
	{fs.ErrNoSpace, syscall.ENOSPC},
	{fs.ErrXattrSpace, syscall.ENOSPC},
	{fs.ErrTooBig, syscall.EFBIG},
	{fs.ErrTooManyLink, syscall.EMLINK},
	{fs.ErrPermission, syscall.EPERM},
	{fs.ErrRange, syscall.ERANGE},
	{fs.ErrStale, syscall.ESTALE},
	{fs.ErrOvertaken, syscall.EROFS},
	{fs.ErrDamaged, syscall.EIO}, // package fs has logged what is damaged
	{fs.ErrStopped, syscall.EIO}, // and why it stopped
	{context.Canceled, syscall.EINTR},
}

// status returns what the kernel is told of err. An error that is not in the table becomes EIO and leaves one line in
// the log, which names the node by its number; err names objects, not files.
func (r *rawFS) status(op string, node uint64, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	for i := range errnos {
		if errors.Is(err, errnos[i].err) {
			return fuse.Status(errnos[i].errno)
		}
	}
	r.log.Error("input/output error", "op", op, "node", node, "err", err)
	return fuse.EIO
}
