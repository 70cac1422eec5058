package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"

	"envfs/remote"
)

// maxReplaced bounds the objects that are ever replaced.
const maxReplaced = 1 << 20

// Replace implements remote.Store by one PUT with If-Match. No two contents of an object are equal that were ever put by
// this (they hold sequence numbers and random bytes), so whether a PUT whose reply was lost has been done is seen from
// what is there.
func (s *Store) Replace(ctx context.Context, name string, old []byte, content func(identity []byte) ([]byte, error)) error {
	return fail("replace", name, s.replace(ctx, name, old, content))
}

func (s *Store) replace(ctx context.Context, name string, old []byte, content func(identity []byte) ([]byte, error)) error {
	if err := s.writable(ctx, name); err != nil {
		return err
	}
	if !remote.IsReplaced(name) {
		return errors.New("is written once and never replaced")
	}
	etag, err := s.etagOf(ctx, name, old)
	if err != nil {
		return err
	}
	data, err := content(s.identity())
	if err != nil {
		return err
	}
	data = bytes.Clone(data)
	unclear := false
	err = s.doWriting(ctx, int64(len(data)), func(ctx context.Context) error {
		now, err := s.send(ctx, name, data, etag)
		if err == nil {
			s.remember(name, data, now)
			return nil
		}
		if !errors.Is(err, errPrecondition) && !errors.Is(err, remote.ErrNotExist) {
			unclear = true
			return err
		}
		s.forget(name)
		if !unclear {
			return remote.ErrChanged
		}
		there, _, err := s.getWhole(ctx, name, maxReplaced)
		if errors.Is(err, remote.ErrNotExist) || err == nil && !bytes.Equal(there, data) {
			return remote.ErrChanged
		}
		return err
	})
	if err != nil {
		s.forget(name)
	}
	return err
}

// etagOf returns the ETag of an object whose content is old, "" if old is nil and there is none, else ErrChanged.
func (s *Store) etagOf(ctx context.Context, name string, old []byte) (string, error) {
	if old != nil {
		if v, ok := s.recall(name); ok && v.hash == sha256.Sum256(old) {
			return v.etag, nil
		}
	}
	now, etag, err := s.getWhole(ctx, name, maxReplaced)
	switch {
	case errors.Is(err, remote.ErrNotExist) && old == nil:
		return "", nil
	case errors.Is(err, remote.ErrNotExist), err == nil && (old == nil || !bytes.Equal(now, old)):
		return "", remote.ErrChanged
	}
	return etag, err
}

func (s *Store) remember(name string, data []byte, etag string) {
	if !remote.IsReplaced(name) || etag == "" {
		return
	}
	v := version{etag, sha256.Sum256(data)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[name] = v
}

func (s *Store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, name)
}

func (s *Store) recall(name string) (version, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.known[name]
	return v, ok
}
