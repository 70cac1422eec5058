package crash

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"envfs/blockcrypt"
	"envfs/fs"
)

// betweenFiles reports whether operations may go on at the moment when name is made. Rewrap makes headers at the same
// time, in an order that no seed gives.
func betweenFiles(name string) bool {
	return strings.HasPrefix(name, "dirs/") || strings.HasPrefix(name, "folds/")
}

// rewrap rewraps, and holds against the store what is said then.
func (s *session) rewrap() error {
	return s.do("rewrap", stepAll, 0, func() error {
		var res fs.RewrapResult
		err := s.disturbed(betweenFiles, func() (err error) {
			res, err = s.fs.Rewrap(s.ctx, nil)
			return err
		})
		if err != nil {
			return err
		}
		use, err := s.fs.KeyUse(s.ctx)
		if err != nil {
			return err
		}
		if res.Damaged != 0 || res.Epoch != use.Newest || use.Old() != 0 {
			return fmt.Errorf("is done: %+v; in use: %+v", res, use)
		}
		return s.tellsKeyUse()
	}, nil)
}

// breakRewrap rewraps, but the n-th object cannot be made, or nobody waits for it any more. It may go through if it makes
// fewer.
func (s *session) breakRewrap(n int) error {
	return s.do(fmt.Sprintf("rewrap that is broken off at object %d", n), stepNote, 0, func() error {
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		full := s.rng.IntN(2) == 0
		var made atomic.Int64
		s.stage.onCreate = func(name string) error {
			switch {
			case !isFolds(name) || made.Add(1) < int64(n):
				return nil
			case full:
				return syscall.ENOSPC
			}
			cancel()
			return nil
		}
		defer func() { s.stage.onCreate = nil }()
		s.failed = true
		_, err := s.fs.Rewrap(ctx, nil)
		if made.Load() < int64(n) {
			return err
		}
		if full && err == nil {
			return errors.New("it has gone through although an object could not be made")
		}
		if full && !errors.Is(err, fs.ErrNoSpace) || !full && err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}, nil)
}

// somewhere draws what is sealed anew: a file, or a directory with all below it.
func (s *session) somewhere() string {
	paths := append(s.paths(blockcrypt.TypeDirectory), s.paths(blockcrypt.TypeRegular)...)
	path, _ := pick(s, paths)
	return path
}

// reencrypt seals anew what lies at path.
func (s *session) reencrypt(path string) error {
	return s.do("reencrypt "+path, stepAll, 0, func() error {
		res, err := fs.ReencryptResult{}, error(nil)
		err = s.disturbed(betweenFiles, func() (err error) {
			res, err = s.fs.Reencrypt(s.ctx, s.base+path, nil)
			return err
		})
		if err == nil && res.Damaged != 0 {
			err = fmt.Errorf("is done: %+v", res)
		}
		return err
	}, nil)
}

// isSealedAnew checks that no file has a data key that was made before the newest key epoch.
func (s *session) isSealedAnew() error {
	c, err := s.census()
	if err != nil {
		return err
	}
	return c.eachHeader(s.ctx, func(name string, epoch uint32, keys []blockcrypt.WrappedDEK) error {
		for _, k := range keys {
			if k.Born != c.keys.Newest() {
				return fmt.Errorf("%s has a data key of epoch %d; the newest is %d", name, k.Born, c.keys.Newest())
			}
		}
		return nil
	})
}

// tellsKeyUse holds what KeyUse tells against the objects that live: which key epochs have sealed them, and have wrapped
// the data keys in them. Nothing else goes on meanwhile.
func (s *session) tellsKeyUse() error {
	use, err := s.fs.KeyUse(s.ctx)
	if err != nil {
		return err
	}
	c, err := s.census()
	if err != nil {
		return err
	}
	real := make(map[uint32]*fs.EpochUse)
	of := func(epoch uint32) *fs.EpochUse {
		if real[epoch] == nil {
			real[epoch] = &fs.EpochUse{Epoch: epoch}
		}
		return real[epoch]
	}
	for name := range c.born {
		n, err := blockcrypt.ParseName(name)
		if err != nil || n.Kind == blockcrypt.KindExtent {
			continue
		}
		data, err := s.store.Get(s.ctx, name, 1<<30)
		if err != nil {
			return err
		}
		switch u := of(epochOf(data)); n.Kind {
		case blockcrypt.KindHeader:
			u.Headers++
		case blockcrypt.KindIndex, blockcrypt.KindShard:
			u.Indexes++
		case blockcrypt.KindMapPage:
			u.Pages++
		}
	}
	told := make(map[uint32]*fs.EpochUse)
	for i := range use.Tree {
		told[use.Tree[i].Epoch] = &use.Tree[i]
	}
	for epoch := range c.keys.Newest() {
		epoch++
		got, want := told[epoch], of(epoch)
		if got == nil {
			got = &fs.EpochUse{}
		}
		if got.Headers != want.Headers || got.Indexes != want.Indexes || got.Pages != want.Pages {
			return fmt.Errorf("of key epoch %d %+v are said to be in use; there are %+v", epoch, got, want)
		}
	}
	if use.Newest != c.keys.Newest() || use.Skipped != 0 {
		return fmt.Errorf("in use is said to be %+v; the newest key epoch is %d", use, c.keys.Newest())
	}
	for _, seg := range []blockcrypt.SegmentRef{c.root.First, c.root.Last} {
		if seg.IsZero() {
			continue
		}
		head := make([]byte, blockcrypt.SegmentPrefixSize)
		if _, err := s.store.ReadAt(s.ctx, seg.Name, head, 0); err != nil {
			return err
		}
		p, err := c.vault.ParseSegmentPrefix(head)
		if err != nil {
			return err
		}
		if !slices.Contains(use.Journal, p.Epoch) {
			return fmt.Errorf("segment %s is of key epoch %d; told are %v", seg.Name, p.Epoch, use.Journal)
		}
	}
	return c.eachHeader(s.ctx, func(name string, epoch uint32, keys []blockcrypt.WrappedDEK) error {
		for _, k := range keys {
			if k.Epoch != epoch || k.Born > epoch {
				return fmt.Errorf("%s of key epoch %d has a data key of epoch %d that is wrapped under %d", name, epoch, k.Born, k.Epoch)
			}
		}
		return nil
	})
}

// epochOf returns the key epoch in an object's clear prefix.
func epochOf(data []byte) uint32 { return binary.BigEndian.Uint32(data[32:]) }

// eachHeader calls fn with the data keys of every file that has a header.
func (c *census) eachHeader(ctx context.Context, fn func(name string, epoch uint32, keys []blockcrypt.WrappedDEK) error) error {
	for name := range c.born {
		n, err := blockcrypt.ParseName(name)
		if err != nil || n.Kind != blockcrypt.KindHeader {
			continue
		}
		data, err := c.store.Get(ctx, name, 1<<30)
		if err != nil {
			return err
		}
		keys, _, _, err := c.vault.OpenHeader(c.keys, name, n.ID, data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := fn(name, epochOf(data), keys); err != nil {
			return err
		}
	}
	return nil
}
