package s3

import (
	"context"
	"strings"

	"github.com/minio/minio-go/v7"

	"envfs/remote"
)

// listPage is the number of objects that one request lists.
const listPage = 1000

// List implements remote.Store. The objects come in the order of their names.
func (s *Store) List(ctx context.Context, prefix string, fn func(remote.Info) error) error {
	if err := s.ready(ctx); err != nil {
		return fail("list", prefix, err)
	}
	if err := remote.CheckPrefix(prefix); err != nil {
		return fail("list", prefix, err)
	}
	for after := ""; ; {
		var page []remote.Info
		err := s.do(ctx, 0, func(ctx context.Context) (err error) {
			page, err = s.listSome(ctx, prefix, after)
			return err
		})
		if err != nil {
			return fail("list", prefix, err)
		}
		for _, i := range page {
			if err := fn(i); err != nil {
				return err
			}
		}
		if len(page) < listPage {
			return nil
		}
		after = page[len(page)-1].Name
	}
}

// listSome returns up to listPage objects behind a name; fewer: there are no more.
func (s *Store) listSome(ctx context.Context, prefix, after string) ([]remote.Info, error) {
	o := minio.ListObjectsOptions{Prefix: s.key(prefix), Recursive: true, MaxKeys: listPage}
	if after != "" {
		o.StartAfter = s.key(after)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var page []remote.Info
	for object := range s.core.ListObjectsIter(ctx, s.address.Bucket, o) {
		if object.Err != nil {
			return nil, object.Err
		}
		name, ok := strings.CutPrefix(object.Key, s.prefix)
		if !ok || strings.HasSuffix(name, "/") || name <= after {
			continue // a folder's marker, or what was not asked for
		}
		page = append(page, remote.Info{Name: name, Size: object.Size})
		if len(page) == listPage {
			break
		}
	}
	return page, nil
}
