package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"
)

const (
	objectSize = 4 << 20
	atOnce     = 8 // objects on their way
)

// bare is minio-go by itself: the big file is a row of objects, in clear. It shows no files.
type bare struct {
	local
	client *minio.Client
	bucket string
}

func newBare(e *environment) (peer, error) {
	client, err := e.server.newClient()
	return &bare{client: client, bucket: e.bucket}, err
}

func (*bare) mount() error   { return nil }
func (*bare) unmount() error { return nil }
func (*bare) root() string   { return "" }
func (*bare) pids() []int    { return nil }
func (*bare) discard() error { return nil }

// each calls fn for each part of the big file, several at a time.
func (b *bare) each(ctx context.Context, s *site, fn func(ctx context.Context, name string, off int64) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for off := int64(0); off < s.sizes.big; off += objectSize {
		g.Go(func() error { return fn(ctx, fmt.Sprintf("part%06d", off/objectSize), off) })
	}
	return g.Wait()
}

func (b *bare) put(ctx context.Context, s *site) error {
	return b.each(ctx, s, func(ctx context.Context, name string, off int64) error {
		data := make([]byte, 0, objectSize)
		for len(data) < objectSize {
			data = append(data, s.noise.At(off+int64(len(data)), sequence)...)
		}
		_, err := b.client.PutObject(ctx, b.bucket, name, bytes.NewReader(data), objectSize, minio.PutObjectOptions{DisableMultipart: true})
		return err
	})
}

func (b *bare) get(ctx context.Context, s *site) error {
	return b.each(ctx, s, func(ctx context.Context, name string, _ int64) error {
		object, err := b.client.GetObject(ctx, b.bucket, name, minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, object)
		if err == nil && n != objectSize {
			err = fmt.Errorf("read %s: %d bytes", name, n)
		}
		_ = object.Close() // it was read to its end, or err tells more
		return err
	})
}
