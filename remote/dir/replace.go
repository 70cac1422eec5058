package dir

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"envfs/remote"
)

// Replace implements remote.Store. Two stores on one directory exclude each other only by Lock, but for the first
// content of an object, which is linked into place: of two that make it, one wins.
func (s *Store) Replace(ctx context.Context, name string, old []byte, content func(identity []byte) ([]byte, error)) error {
	return fail("replace", name, s.replace(ctx, name, old, content), true)
}

func (s *Store) replace(ctx context.Context, name string, old []byte, content func(identity []byte) ([]byte, error)) error {
	if err := s.checkWrite(ctx, name); err != nil {
		return err
	}
	if !remote.IsReplaced(name) {
		return errors.New("is written once and never replaced")
	}
	s.replacing.Lock()
	defer s.replacing.Unlock()
	// What a failed sync has lost must not be named by a new root.
	if err := s.pending.failed(); err != nil {
		return err
	}
	if err := s.compare(ctx, name, old); err != nil {
		return err
	}

	temp := tempPrefix(name) + strings.ToLower(rand.Text())
	if err := s.writeTemp(temp, content); err != nil {
		return errors.Join(err, ignoreMissing(s.fs.Remove(temp)))
	}
	if old != nil {
		if err := s.fs.Rename(temp, name); err != nil {
			return errors.Join(err, ignoreMissing(s.fs.Remove(temp)))
		}
		return unclear(s.pending.syncDir(""))
	}
	if err := s.fs.Link(temp, name); err != nil {
		if errors.Is(err, syscall.EEXIST) {
			err = remote.ErrChanged
		}
		return errors.Join(err, ignoreMissing(s.fs.Remove(temp)))
	}
	if err := unclear(s.pending.syncDir("")); err != nil {
		return err
	}
	// Another store that took the lock meanwhile may have removed it. One that stays is removed by the next lock.
	_ = s.fs.Remove(temp)
	return nil
}

// unclear is err without the promise of ErrNoSpace that the old content is there.
func unclear(err error) error {
	if errors.Is(sentinel(err, true), remote.ErrNoSpace) {
		return fmt.Errorf("sync the new name: %s", err)
	}
	return err
}

// compare returns ErrChanged unless the object's content is old; nil: unless there is no object.
func (s *Store) compare(ctx context.Context, name string, old []byte) error {
	size, err := s.Size(ctx, name)
	switch {
	case errors.Is(err, remote.ErrNotExist):
		if old != nil {
			return remote.ErrChanged
		}
		// No object, or no directory any more?
		_, err := s.fs.ReadDir("")
		return err
	case err != nil:
		return err
	case old == nil || size != int64(len(old)):
		return remote.ErrChanged
	}
	now, err := s.get(ctx, name, size)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, old) {
		return remote.ErrChanged
	}
	return nil
}

// writeTemp makes the file that is to become the object, durable but for its name.
func (s *Store) writeTemp(temp string, content func(identity []byte) ([]byte, error)) error {
	f, err := s.fs.Create(temp)
	if err != nil {
		return err
	}
	err = func() error {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		data, err := content(s.identity(st))
		if err != nil {
			return err
		}
		if err := writeAll(f, data, 0); err != nil {
			return err
		}
		return f.Sync()
	}()
	return errors.Join(err, f.Close())
}

// identity tells a file from every copy of it: UUID of its file system, inode, and birth time in nanoseconds.
func (s *Store) identity(st Stat) []byte {
	id := append([]byte{byte(len(s.uuid))}, s.uuid...)
	id = binary.BigEndian.AppendUint64(id, st.Inode)
	var birth int64
	if !st.Birth.IsZero() {
		birth = st.Birth.UnixNano()
	}
	return binary.BigEndian.AppendUint64(id, uint64(birth))
}
