package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7"

	"envfs/remote"
)

// ErrNoConditions is returned by Probe for a server on which two writers could destroy each other's work.
var ErrNoConditions = errors.New("the server does not honour conditional PUT (If-None-Match, If-Match)")

// Probe proves with an object of its own that the server does what writing needs: that it refuses to put an object that
// exists, or that has changed, and that what was written is read at once. It leaves nothing behind.
func (s *Store) Probe(ctx context.Context) error {
	name := "audit/probe-" + strings.ToLower(rand.Text())
	if err := s.writable(ctx, name); err != nil {
		return fail("probe", s.address.String(), err)
	}
	err := s.probe(ctx, name)
	// Past Delete, which counts refusals: a bucket that keeps this small object keeps it.
	_ = s.core.RemoveObject(context.WithoutCancel(ctx), s.address.Bucket, s.key(name), minio.RemoveObjectOptions{})
	return fail("probe", s.address.String(), err)
}

func (s *Store) probe(ctx context.Context, name string) error {
	one, two := []byte("one"), []byte("two")
	var first, ignored string
	step := func(data []byte, etag string, result *string) error {
		return s.do(ctx, 0, func(ctx context.Context) (err error) {
			*result, err = s.send(ctx, name, data, etag)
			return err
		})
	}
	if err := step(one, "", &first); err != nil && !errors.Is(err, errPrecondition) { // the reply to the first may have been lost
		return err
	}
	if first == "" {
		_, etag, err := s.getWhole(ctx, name, 16)
		if err != nil {
			return err
		}
		first = etag
	}
	if err := step(two, "", &ignored); err == nil {
		return fmt.Errorf("%w: it puts an object over one that exists", ErrNoConditions)
	} else if !errors.Is(err, errPrecondition) {
		return err
	}
	err := step(two, first, &ignored)
	refused := errors.Is(err, errPrecondition) || errors.Is(err, remote.ErrNotExist)
	if err != nil && !refused {
		return err
	}
	if err := step(one, first, &ignored); err == nil {
		return fmt.Errorf("%w: it replaces what has changed", ErrNoConditions)
	} else if !errors.Is(err, errPrecondition) {
		return err
	}
	now, _, err := s.getWhole(ctx, name, 16)
	if err != nil {
		return err
	}
	switch {
	case string(now) == "two": // also if it was refused: a reply was lost
	case refused:
		return fmt.Errorf("%w: it refuses to replace what has not changed", ErrNoConditions)
	default:
		return fmt.Errorf("%w: it returns an older content than was written", ErrNoConditions)
	}
	return nil
}
