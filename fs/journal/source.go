package journal

import (
	"context"
	"errors"
	"io"

	"envfs/remote"
)

const (
	headBytes = 4 << 10 // enough for a segment's prefix and start record
	readAhead = 1 << 20
)

// source reads one segment through a buffer, forwards.
type source struct {
	store remote.Store
	name  string
	size  int64 // bytes of the segment; less if it turns out shorter
	ahead int   // bytes to read at a time
	buf   []byte
	off   int64 // of buf in the segment
}

// window returns n bytes from off, fewer at the segment's end. They are valid until the next call.
func (s *source) window(ctx context.Context, off int64, n int) ([]byte, error) {
	n = int(max(0, min(int64(n), s.size-off)))
	if off < s.off || off+int64(n) > s.off+int64(len(s.buf)) {
		if err := s.fill(ctx, off, n); err != nil {
			return nil, err
		}
		n = min(n, len(s.buf))
	}
	p := s.buf[off-s.off:]
	return p[:n:n], nil
}

func (s *source) fill(ctx context.Context, off int64, n int) error {
	want := int(min(int64(max(n, s.ahead)), s.size-off))
	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	s.off, s.buf = off, s.buf[:want]
	got, err := s.store.ReadAt(ctx, s.name, s.buf, off)
	if errors.Is(err, io.EOF) {
		s.size = off + int64(got)
		err = nil
	}
	s.buf = s.buf[:got]
	if err != nil {
		s.buf = s.buf[:0]
	}
	return err
}

// allZero reports whether there are only zeros from off on.
func (s *source) allZero(ctx context.Context, off int64) (bool, error) {
	for off < s.size {
		p, err := s.window(ctx, off, readAhead)
		if err != nil {
			return false, err
		}
		for _, c := range p {
			if c != 0 {
				return false, nil
			}
		}
		off += int64(len(p))
	}
	return true, nil
}
