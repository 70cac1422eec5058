package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"

	"envfs/remote"
)

// ReadAt implements remote.Store by a GET with a range.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	n, err := s.readAt(ctx, name, p, off)
	if err == io.EOF {
		return n, err
	}
	return n, fail("read", name, err)
}

func (s *Store) readAt(ctx context.Context, name string, p []byte, off int64) (n int, err error) {
	if err := s.readable(ctx, name); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, errors.New("the offset is negative")
	}
	if len(p) == 0 {
		return 0, nil
	}
	var end bool
	err = s.do(ctx, int64(len(p)), func(ctx context.Context) (err error) {
		n, end, err = s.getRange(ctx, name, p, off)
		return err
	})
	if err == nil && end {
		err = io.EOF
	}
	return n, err
}

// getRange fills p, or less of it at the object's end.
func (s *Store) getRange(ctx context.Context, name string, p []byte, off int64) (n int, end bool, err error) {
	o := minio.GetObjectOptions{ServerSideEncryption: s.get}
	if err := o.SetRange(off, off+int64(len(p))-1); err != nil {
		return 0, false, err
	}
	body, info, header, err := s.core.GetObject(ctx, s.address.Bucket, s.key(name), o)
	if r := new(minio.ErrorResponse); errors.As(err, r) && (r.StatusCode == http.StatusRequestedRangeNotSatisfiable || r.Code == "InvalidRange") {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer drain(body)
	total, whole := info.Size, true
	if r := header.Get("Content-Range"); r != "" {
		whole = false
		if total, err = parseContentRange(r, off); err != nil {
			return 0, false, err
		}
	}
	if whole && off > 0 {
		if total <= off {
			return 0, true, nil
		}
		return 0, false, fmt.Errorf("%w: it does not read ranges", errProtocol)
	}
	want := min(int64(len(p)), total-off)
	n, err = io.ReadFull(body, p[:want])
	s.count.received.Add(int64(n))
	if err != nil {
		return 0, false, fmt.Errorf("%w: %w", errShort, err)
	}
	return n, want < int64(len(p)), nil
}

// parseContentRange returns the object's length from "bytes FIRST-LAST/LENGTH".
func parseContentRange(r string, first int64) (length int64, err error) {
	rest, ok := strings.CutPrefix(r, "bytes "+strconv.FormatInt(first, 10)+"-")
	_, after, slash := strings.Cut(rest, "/")
	if length, err = strconv.ParseInt(after, 10, 64); !ok || !slash || err != nil || length <= first {
		return 0, fmt.Errorf("%w: it sent the range %q instead of one that begins at %d", errProtocol, r, first)
	}
	return length, nil
}

// Get implements remote.Store.
func (s *Store) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	data, _, err := s.getWhole(ctx, name, limit)
	return data, fail("get", name, err)
}

// getWhole returns an object and its ETag. What is ever replaced is remembered.
func (s *Store) getWhole(ctx context.Context, name string, limit int64) (data []byte, etag string, err error) {
	if err := s.readable(ctx, name); err != nil {
		return nil, "", err
	}
	err = s.do(ctx, min(limit, 1<<30), func(ctx context.Context) error {
		body, info, _, err := s.core.GetObject(ctx, s.address.Bucket, s.key(name), minio.GetObjectOptions{ServerSideEncryption: s.get})
		if err != nil {
			return err
		}
		defer drain(body)
		if info.Size > limit {
			return &tooLarge{info.Size, limit}
		}
		if info.Size < 0 {
			return fmt.Errorf("%w: it does not tell the object's length", errProtocol)
		}
		data, etag = make([]byte, info.Size), info.ETag
		n, err := io.ReadFull(body, data)
		s.count.received.Add(int64(n))
		if err != nil {
			return fmt.Errorf("%w: %w", errShort, err)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	s.remember(name, data, etag)
	return data, etag, nil
}

// tooLarge is returned for objects that have more bytes than expected.
type tooLarge struct{ size, limit int64 }

func (e *tooLarge) Error() string {
	return fmt.Sprintf("object has %d bytes, more than the %d that are expected", e.size, e.limit)
}

// Unwrap returns what callers act on.
func (e *tooLarge) Unwrap() error { return remote.ErrNotObject }

// Size implements remote.Store.
func (s *Store) Size(ctx context.Context, name string) (size int64, err error) {
	if err := s.readable(ctx, name); err != nil {
		return 0, fail("size of", name, err)
	}
	err = s.do(ctx, 0, func(ctx context.Context) error {
		info, err := s.core.StatObject(ctx, s.address.Bucket, s.key(name), minio.StatObjectOptions{ServerSideEncryption: s.get})
		size = info.Size
		return err
	})
	if err != nil {
		return 0, fail("size of", name, err)
	}
	return size, nil
}

func (s *Store) readable(ctx context.Context, name string) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return remote.CheckReadName(name)
}

// drain reads what is left of a small rest, so that the connection can be used again, and closes body.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 64<<10)
	_ = body.Close()
}
