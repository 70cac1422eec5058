package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"envfs/fs"
)

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
		logs int
	}{
		{nil, 0, 0},
		{fs.ErrNotExist, syscall.ENOENT, 0},
		{fs.ErrExist, syscall.EEXIST, 0},
		{fs.ErrNotDir, syscall.ENOTDIR, 0},
		{fs.ErrIsDir, syscall.EISDIR, 0},
		{fs.ErrNotEmpty, syscall.ENOTEMPTY, 0},
		{fs.ErrNameTooLong, syscall.ENAMETOOLONG, 0},
		{fs.ErrInvalid, syscall.EINVAL, 0},
		{fs.ErrUnsupported, syscall.EOPNOTSUPP, 0},
		{fs.ErrReadOnly, syscall.EROFS, 0},
		{fs.ErrNoSpace, syscall.ENOSPC, 0},
		{fs.ErrTooBig, syscall.EFBIG, 0},
		{fs.ErrTooManyLink, syscall.EMLINK, 0},
		{fs.ErrPermission, syscall.EPERM, 0},
		{fs.ErrNoXattr, syscall.ENODATA, 0},
		{fs.ErrRange, syscall.ERANGE, 0},
		{fs.ErrXattrSpace, syscall.ENOSPC, 0},
		{fs.ErrNoData, syscall.ENXIO, 0},
		{fs.ErrStale, syscall.ESTALE, 0},
		{fs.ErrDamaged, syscall.EIO, 0},
		{fs.ErrStopped, syscall.EIO, 0},
		{context.Canceled, syscall.EINTR, 0},
		{errors.New("something else"), syscall.EIO, 1},
	} {
		var out bytes.Buffer
		r := &rawFS{log: slog.New(slog.NewTextHandler(&out, nil))}
		err := c.err
		if err != nil {
			err = fmt.Errorf("op subject: %w", err)
		}
		if got := r.status("op", 7, err); got != fuse.Status(c.want) {
			t.Errorf("%v: got %v, want %v", c.err, got, c.want)
		}
		if n := strings.Count(out.String(), "\n"); n != c.logs {
			t.Errorf("%v: %d lines in the log, want %d: %s", c.err, n, c.logs, out.String())
		}
	}
}
