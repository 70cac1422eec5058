package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/minio/minio-go/v7"

	"envfs/remote"
)

// maxPut bounds what one PUT may carry.
const maxPut = 5 << 30

// Put implements remote.Store. A PUT whose reply was lost is sent again with the same bytes; if it turns out then that
// the object exists, its content says whether it is the one that was put.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	return fail("put", name, s.putNew(ctx, name, data))
}

func (s *Store) putNew(ctx context.Context, name string, data []byte) error {
	if err := s.writable(ctx, name); err != nil {
		return err
	}
	if remote.IsReplaced(name) {
		return errors.New("is only ever replaced")
	}
	if len(data) > maxPut {
		return fmt.Errorf("has %d bytes, more than one request may carry", len(data))
	}
	unclear := false
	return s.doWriting(ctx, int64(len(data)), func(ctx context.Context) error {
		_, err := s.send(ctx, name, data, "")
		switch {
		case !errors.Is(err, errPrecondition):
			unclear = unclear || err != nil
			return err
		case !unclear:
			return remote.ErrExist
		}
		return s.ours(ctx, name, data)
	})
}

// ours returns nil if the object has this content, else ErrExist.
func (s *Store) ours(ctx context.Context, name string, data []byte) error {
	now, _, err := s.getWhole(ctx, name, int64(len(data)))
	if big := new(tooLarge); errors.As(err, &big) {
		return remote.ErrExist
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(now, data) {
		return remote.ErrExist
	}
	return nil
}

// send is one PUT of an object that has the ETag now; "": that is not there. It returns the new ETag, or errPrecondition.
func (s *Store) send(ctx context.Context, name string, data []byte, etag string) (string, error) {
	o := minio.PutObjectOptions{
		ContentType:          "application/octet-stream",
		ServerSideEncryption: s.put,
		DisableContentSha256: true, // a CRC32C follows the content instead
	}
	if etag == "" {
		o.SetMatchETagExcept("*")
	} else {
		o.SetMatchETag(etag)
	}
	info, err := s.core.PutObject(ctx, s.address.Bucket, s.key(name), bytes.NewReader(data), int64(len(data)), "", "", o)
	if err != nil {
		_, err = judge(err)
		return "", err
	}
	s.count.sent.Add(int64(len(data)))
	return info.ETag, nil
}

func (s *Store) writable(ctx context.Context, name string) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if s.readOnly {
		return remote.ErrReadOnly
	}
	return remote.CheckName(name)
}

// deleteBatch is the number of objects that one request may delete.
const deleteBatch = 1000

// Delete implements remote.Store. Objects that the server keeps although it was asked to delete them (a lock, a policy)
// are counted, and are no error.
func (s *Store) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := s.writable(ctx, name); err != nil {
			return fail("delete", name, err)
		}
	}
	for len(names) > 0 {
		n := min(len(names), deleteBatch)
		if err := s.doWriting(ctx, 0, func(ctx context.Context) error { return s.deleteSome(ctx, names[:n]) }); err != nil {
			return fail("delete", fmt.Sprintf("%d objects from %s on", n, names[0]), err)
		}
		names = names[n:]
	}
	return nil
}

func (s *Store) deleteSome(ctx context.Context, names []string) error {
	if len(names) == 1 {
		err := s.core.RemoveObject(ctx, s.address.Bucket, s.key(names[0]), minio.RemoveObjectOptions{})
		return s.refused(err)
	}
	keys := make(chan minio.ObjectInfo, len(names))
	for _, name := range names {
		keys <- minio.ObjectInfo{Key: s.key(name)}
	}
	close(keys)
	var first error
	for r := range s.core.RemoveObjects(ctx, s.address.Bucket, keys, minio.RemoveObjectsOptions{}) {
		if err := s.refused(r.Err); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// refused counts a deletion that the server does not allow, and returns other errors.
func (s *Store) refused(err error) error {
	r := new(minio.ErrorResponse)
	if !errors.As(err, r) {
		return err
	}
	switch r.Code {
	case "AccessDenied", "ObjectLocked", "InvalidRequest", "MethodNotAllowed":
		s.count.refused.Add(1)
		return nil
	case minio.NoSuchKey:
		return nil
	}
	return err
}
