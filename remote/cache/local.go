package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"envfs/remote"
)

// publishing bounds how many objects are published at a time, each of which is held in memory.
const publishing = 8

// local is the state as a remote.Local. It reads what the whole store does.
type local struct{ *Store }

// Local implements remote.Shared.
func (s *Store) Local() remote.Local { return local{s} }

// Lock implements remote.Local: it locks the state.
func (l local) Lock() error {
	if err := l.state.Lock(); err != nil {
		return err
	}
	if err := l.kept.tidy(); err != nil {
		return fmt.Errorf("remove what a crash has left: %w", err)
	}
	return nil
}

// Create implements remote.Local for segments and extents, which alone grow, and for what is set aside below damaged/,
// which stays in the state.
func (l local) Create(ctx context.Context, name string) (remote.File, error) {
	if grows(name) || strings.HasPrefix(name, "damaged/") {
		f, err := l.state.Create(ctx, name)
		if err != nil || !grows(name) {
			return f, err
		}
		return &gauged{File: f, name: name, gauge: l.gauge}, nil
	}
	err := remote.CheckName(name)
	if err == nil {
		if _, err = l.far.Size(ctx, name); err == nil {
			err = remote.ErrExist
		} else if errors.Is(err, remote.ErrNotExist) {
			err = errors.New("objects of this kind do not grow")
		}
	}
	return nil, fmt.Errorf("create %s: %w", name, err)
}

// Sync implements remote.Store for the state alone.
func (l local) Sync(ctx context.Context) error { return l.state.Sync(ctx) }

// Settle implements remote.Local. What is in the shared store is durable.
func (l local) Settle(ctx context.Context, names []string) error {
	var here []string
	for _, name := range names {
		if err := remote.CheckReadName(name); err != nil {
			return fmt.Errorf("settle %s: %w", name, err)
		}
		if grows(name) {
			here = append(here, name)
		}
	}
	return l.state.Settle(ctx, here)
}

// Publish implements remote.Shared.
func (s *Store) Publish(ctx context.Context, objects []remote.Info) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(publishing)
	for _, o := range objects {
		g.Go(func() error {
			if err := s.publish(ctx, o); err != nil {
				return fmt.Errorf("publish %s: %w", o.Name, err)
			}
			return nil
		})
	}
	err := g.Wait()
	s.gauge.fails.Store(err != nil)
	return err
}

func (s *Store) publish(ctx context.Context, o remote.Info) error {
	data := make([]byte, o.Size)
	n, err := s.state.ReadAt(ctx, o.Name, data, 0)
	switch {
	case errors.Is(err, remote.ErrNotExist):
		return s.published(ctx, o, nil) // and released
	case err == io.EOF:
		return fmt.Errorf("it has %d bytes here, fewer than the %d that are named", n, o.Size)
	case err != nil:
		return err
	}
	err = s.far.Put(ctx, o.Name, data)
	if errors.Is(err, remote.ErrExist) {
		err = s.published(ctx, o, data)
	}
	if err == nil {
		s.gauge.sent.Add(o.Size)
	}
	return err
}

// published makes sure that an object is in the shared store as it is to be; data is its content if that is known.
func (s *Store) published(ctx context.Context, o remote.Info, data []byte) error {
	size, err := s.far.Size(ctx, o.Name)
	if err != nil {
		return err
	}
	if size != o.Size {
		return fmt.Errorf("%w with %d bytes, not %d", remote.ErrExist, size, o.Size)
	}
	if data == nil {
		return nil
	}
	there, err := s.far.Get(ctx, o.Name, size)
	if err != nil {
		return err
	}
	if !bytes.Equal(there, data) {
		return fmt.Errorf("%w with another content", remote.ErrExist)
	}
	return nil
}

// Release implements remote.Shared. Segments are kept; the rest of what is released is not put into the cache: it was
// read from memory and from the kernel's page cache so far, and is fetched if it is wanted again.
func (s *Store) Release(ctx context.Context, names []string) error {
	for _, name := range names {
		if !s.kept.keeps(name) {
			continue
		}
		if err := s.kept.take(s.at, name); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	if err := s.state.Delete(ctx, names...); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	s.gauge.gone(names)
	return nil
}

// Unpublished implements remote.Shared.
func (s *Store) Unpublished(ctx context.Context) (objects []remote.Info, err error) {
	err = s.state.List(ctx, "", func(i remote.Info) error {
		if grows(i.Name) {
			objects = append(objects, i)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list what is not published: %w", err)
	}
	return objects, nil
}
