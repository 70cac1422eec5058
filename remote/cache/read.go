package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"envfs/remote"
)

// maxWhole bounds the objects that Get keeps in the cache, in bytes.
const maxWhole = 4 << 20

// ReadAt implements remote.Store. What is fetched is kept, in pages of pageSize.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if grows(name) {
		n, err := s.state.ReadAt(ctx, name, p, off)
		if errors.Is(err, remote.ErrNotExist) && off >= 0 {
			n, err = s.kept.readAt(name, p, off)
		}
		if !errors.Is(err, remote.ErrNotExist) {
			return n, err
		}
	}
	if off < 0 || !cached(name) {
		return s.far.ReadAt(ctx, name, p, off)
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		n, length, err := s.readPage(ctx, name, at/pageSize, p[done:], int(at%pageSize))
		done += n
		if err != nil {
			return done, err
		}
		if done < len(p) && length < pageSize {
			return done, io.EOF
		}
	}
	return done, nil
}

var _ remote.Viewer = (*Store)(nil)

// View implements remote.Viewer: of what was fetched in a row of pages.
func (s *Store) View(ctx context.Context, name string, off int64, n int) (p []byte, release func(), ok bool) {
	if off < 0 || n <= 0 || !isExtent(name) {
		return nil, nil, false
	}
	key := pageKey{hashOf(name), off / pageSize}
	run := s.runs.under(key)
	if run == nil {
		return nil, nil, false
	}
	from := off - run.from*pageSize
	if run.wait(ctx) != nil || run.err != nil || from+int64(n) > int64(len(run.data)) {
		s.runs.leave(run)
		return nil, nil, false
	}
	for ; key.number*pageSize < off+int64(n); key.number++ {
		s.runs.touch(key)
	}
	return run.data[from : from+int64(n) : from+int64(n)], func() { s.runs.leave(run) }, true
}

// readPage copies a page of an object into p, from within the page on. It returns also how long the page is: shorter than
// pageSize at the object's end, empty behind it.
func (s *Store) readPage(ctx context.Context, name string, number int64, p []byte, within int) (n, length int, err error) {
	take := func(page []byte) (int, int, error) { return copy(p, page[min(within, len(page)):]), len(page), nil }
	key := pageKey{hashOf(name), number}
	sequential := s.runs.touch(key)
	run := s.runs.under(key)
	if run == nil {
		if n, length, ok := s.pages.readAt(key, p, within); ok {
			return n, length, nil
		}
	}
	switch {
	case run != nil:
	case sequential:
		if run, err = s.fetchRun(ctx, name, key); err != nil {
			return 0, 0, err
		}
	case isExtent(name) && number < runPages && s.runs.single(key.object):
		run = s.fetchExtent(name, key.object)
	}
	if run != nil {
		defer s.runs.leave(run)
		if err := run.wait(ctx); err != nil {
			return 0, 0, err
		}
		if run.err == nil {
			return take(run.page(number))
		}
	}
	page, err := s.fetchPage(ctx, name, key)
	if err != nil {
		return 0, 0, err
	}
	return take(page)
}

// fetchPage returns a page from the cache, or fetches it.
func (s *Store) fetchPage(ctx context.Context, name string, key pageKey) ([]byte, error) {
	return s.pages.fetch(ctx, key, func(ctx context.Context) ([]byte, error) {
		data := make([]byte, pageSize)
		begun := time.Now()
		n, err := s.far.ReadAt(ctx, name, data, key.number*pageSize)
		if n > 0 {
			s.runs.took(false, time.Since(begun))
		}
		if err == io.EOF {
			err = nil
		}
		return data[:n:n], err
	})
}

// Forget drops what the cache holds of an object, for who finds it damaged: what is read next is fetched anew. It
// reports whether that was anything.
func (s *Store) Forget(name string) bool {
	held := s.runs.drop(hashOf(name))
	if _, err := s.kept.size(name); err == nil {
		s.kept.drop([]string{name})
		held = true
	}
	return s.pages.drop(hashOf(name)) || held
}

// cached reports whether an object of this name never changes, so that it may be kept.
func cached(name string) bool { return !remote.IsReplaced(name) && remote.CheckName(name) == nil }

// Get implements remote.Store.
func (s *Store) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if grows(name) {
		data, err := s.state.Get(ctx, name, limit)
		if errors.Is(err, remote.ErrNotExist) {
			data, err = s.kept.get(name, limit)
		}
		if !errors.Is(err, remote.ErrNotExist) {
			return data, err
		}
	}
	if !cached(name) {
		return s.far.Get(ctx, name, limit)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	key := pageKey{hashOf(name), wholeObject}
	data, ok := s.pages.get(key)
	if !ok {
		var err error
		data, err = s.pages.fetch(ctx, key, func(ctx context.Context) ([]byte, error) { return s.far.Get(ctx, name, min(limit, maxWhole)) })
		if err != nil && limit > maxWhole {
			return s.far.Get(ctx, name, limit)
		}
		if err != nil {
			return nil, err
		}
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("get %s: %w: it has %d bytes, more than the %d that are expected", name, remote.ErrNotObject, len(data), limit)
	}
	return data, nil
}

// Size implements remote.Store.
func (s *Store) Size(ctx context.Context, name string) (int64, error) {
	if grows(name) {
		n, err := s.state.Size(ctx, name)
		if errors.Is(err, remote.ErrNotExist) {
			n, err = s.kept.size(name)
		}
		if !errors.Is(err, remote.ErrNotExist) {
			return n, err
		}
	}
	if n, ok := s.pages.size(hashOf(name)); ok && cached(name) {
		return n, ctx.Err()
	}
	return s.far.Size(ctx, name)
}

// List implements remote.Store: what is in the state or in the shared store, or in both, once.
func (s *Store) List(ctx context.Context, prefix string, fn func(remote.Info) error) error {
	here := make(map[string]bool)
	var all []remote.Info
	err := s.state.List(ctx, prefix, func(i remote.Info) error {
		if grows(i.Name) {
			here[i.Name] = true
			all = append(all, i)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var keeps []remote.Info
	if s.asKnown {
		if keeps, err = s.kept.names(); err != nil {
			return fmt.Errorf("list what is kept: %w", err)
		}
	}
	for _, i := range keeps {
		if strings.HasPrefix(i.Name, prefix) && !here[i.Name] {
			here[i.Name] = true
			all = append(all, i)
		}
	}
	for _, i := range all {
		if err := fn(i); err != nil {
			return err
		}
	}
	return s.far.List(ctx, prefix, func(i remote.Info) error {
		if here[i.Name] {
			return nil
		}
		return fn(i)
	})
}
