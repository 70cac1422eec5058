package fs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"envfs/blockcrypt"
	"envfs/remote"
)

// CopyResult tells what a copy led to.
type CopyResult struct {
	Moment   time.Time `json:"moment"` // of the root that was copied; what the journal adds to it is copied, too
	Objects  int64     `json:"objects"`
	Bytes    int64     `json:"bytes"`   // of these
	Skipped  int64     `json:"skipped"` // objects that were there already
	Attempts int       `json:"attempts"`
}

// Bounds of a copy at work.
const (
	copiesAtOnce = 16
	copyMemory   = 64 << 20 // bytes of objects in memory, unless one alone is larger
	copyAttempts = 10
)

// errOvertaken means that the source has gone on so far meanwhile that what was to be copied is not whole any more.
var errOvertaken = errors.New("the source has gone on meanwhile")

// Copy copies the vault in src to dst, object by object, without a key. What is there already is left out, so that a copy
// which was cut off, or made some time ago, is completed. src may be written to meanwhile: the copy is the vault as it was
// at one moment after Copy was called. dst holds no vault or an older state of this one, else ErrAhead, and is not written
// to by others; it gets its new root last.
func Copy(ctx context.Context, dst, src remote.Store, progress func(done, total int64)) (CopyResult, error) {
	c := &copier{dst: dst, src: src, progress: progress}
	for {
		c.result.Attempts++
		err := c.run(ctx)
		if !errors.Is(err, errOvertaken) || c.result.Attempts == copyAttempts {
			if err != nil {
				err = fmt.Errorf("copy %s to %s: %w", src.Location(), dst.Location(), err)
			}
			return c.result, err
		}
	}
}

type copier struct {
	dst, src remote.Store
	progress func(done, total int64)
	result   CopyResult

	there       map[string]int64 // at dst
	done, total atomic.Int64     // bytes
}

func (c *copier) run(ctx context.Context) error {
	root, err := readRoot(ctx, c.src, "")
	if err != nil {
		return err
	}
	prefix, err := blockcrypt.ParseRootPrefix(root)
	if err != nil {
		return fmt.Errorf("read root: %w", versionOr(err))
	}
	// The journal first: what its batches name is there then, in the length that they name.
	segments, err := listObjects(ctx, c.src, "journal/")
	if err != nil {
		return err
	}
	objects, err := listObjects(ctx, c.src, "")
	if err != nil {
		return err
	}
	objects = slices.DeleteFunc(objects, func(i remote.Info) bool { return kindOf(i.Name) == blockcrypt.KindSegment })
	old, err := c.look(ctx, &prefix, root, slices.Concat(objects, segments))
	if err != nil {
		return err
	}
	c.result.Moment = goTime(prefix.Time)
	c.done.Store(0)
	c.total.Store(0)
	for _, i := range slices.Concat(objects, segments) {
		c.total.Add(i.Size)
	}
	if err := c.all(ctx, objects, false); err != nil {
		return err
	}
	if err := c.all(ctx, segments, true); err != nil {
		return err
	}
	if err := c.dst.Sync(ctx); err != nil {
		return err
	}
	if !bytes.Equal(old, root) {
		err := c.dst.Replace(ctx, blockcrypt.RootName, old, func([]byte) ([]byte, error) { return root, nil })
		if err != nil {
			return err
		}
	}
	return c.keyCopy(ctx)
}

// listObjects returns the objects of a store that are copied, by name: all but those that are ever replaced.
func listObjects(ctx context.Context, s remote.Store, prefix string) (all []remote.Info, err error) {
	err = s.List(ctx, prefix, func(i remote.Info) error {
		if k := kindOf(i.Name); k != 0 && !remote.IsReplaced(i.Name) {
			all = append(all, i)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b remote.Info) int { return cmp.Compare(a.Name, b.Name) })
	return all, err
}

// kindOf returns the kind of an object, 0 of what is none.
func kindOf(name string) blockcrypt.Kind {
	n, err := blockcrypt.ParseName(name)
	if err != nil {
		return 0
	}
	return n.Kind
}

// look finds out what is at the destination, and returns its root. Whoever has written there made a root, and has left a
// copy of it, whose tag the source does not know.
func (c *copier) look(ctx context.Context, prefix *blockcrypt.RootPrefix, root []byte, source []remote.Info) ([]byte, error) {
	tags := map[blockcrypt.Tag]bool{prefix.R.Tag(): true}
	oldest := uint64(math.MaxUint64)
	for _, i := range source {
		n, err := blockcrypt.ParseName(i.Name)
		if err != nil {
			continue
		}
		tags[n.R.Tag()] = true
		if n.Kind == blockcrypt.KindOldRoot {
			oldest = min(oldest, n.Seq)
		}
	}
	c.there = make(map[string]int64)
	ahead := ""
	err := c.dst.List(ctx, "", func(i remote.Info) error {
		n, err := blockcrypt.ParseName(i.Name)
		if err != nil {
			if strings.HasPrefix(i.Name, ".") || strings.HasPrefix(i.Name, "audit/") || strings.HasPrefix(i.Name, "damaged/") {
				return nil
			}
			return fmt.Errorf("%s is there already: a vault is copied to an empty or new place, or to an older copy of it", i.Name)
		}
		c.there[i.Name] = i.Size
		if n.Kind == blockcrypt.KindOldRoot && !tags[n.R.Tag()] && n.Seq >= oldest {
			ahead = i.Name
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	old, err := c.dst.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
	if errors.Is(err, remote.ErrNotExist) {
		old = nil
	} else if err != nil {
		return nil, err
	}
	if old == nil || bytes.Equal(old, root) {
		if ahead != "" {
			return nil, fmt.Errorf("%w: %s, which no root there names", ErrAhead, ahead)
		}
		return old, nil
	}
	theirs, err := blockcrypt.ParseRootPrefix(old)
	if err != nil {
		return nil, fmt.Errorf("read root of the destination: %w", versionOr(err))
	}
	if ahead != "" || theirs.Seq >= prefix.Seq || !tags[theirs.R.Tag()] {
		return nil, fmt.Errorf("%w: its root %d is of %s, the source's %d of %s", ErrAhead, theirs.Seq, goTime(theirs.Time).Format(time.DateTime),
			prefix.Seq, goTime(prefix.Time).Format(time.DateTime))
	}
	return old, nil
}

// all copies objects. What has vanished meanwhile was superseded, and is needed by no newer state; of the journal it may be
// needed by this one.
func (c *copier) all(ctx context.Context, objects []remote.Info, journal bool) error {
	memory := semaphore.NewWeighted(copyMemory)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copiesAtOnce)
	for _, i := range objects {
		weight := min(i.Size, copyMemory)
		if memory.Acquire(ctx, weight) != nil {
			break // one has failed
		}
		g.Go(func() error {
			defer memory.Release(weight)
			err := c.one(ctx, i)
			if errors.Is(err, remote.ErrNotExist) {
				if err = nil; journal {
					err = fmt.Errorf("%w: %s is gone", errOvertaken, i.Name)
				}
			}
			if c.progress != nil {
				c.progress(c.done.Add(i.Size), c.total.Load())
			}
			return err
		})
	}
	return g.Wait()
}

func (c *copier) one(ctx context.Context, i remote.Info) error {
	size, known := c.there[i.Name]
	if known && size == i.Size {
		atomic.AddInt64(&c.result.Skipped, 1)
		return nil
	}
	if known && size > i.Size {
		return fmt.Errorf("%w: %s has %d bytes there, %d at the source", ErrAhead, i.Name, size, i.Size)
	}
	data := make([]byte, i.Size)
	if n, err := c.src.ReadAt(ctx, i.Name, data, 0); err == io.EOF {
		return fmt.Errorf("read %s: it has %d bytes, and was listed with %d: %w", i.Name, n, i.Size, ErrDamaged)
	} else if err != nil {
		return err
	}
	if known { // it was cut off, or has grown
		if err := c.dst.Delete(ctx, i.Name); err != nil {
			return err
		}
	}
	if err := c.dst.Put(ctx, i.Name, data); err != nil {
		return err
	}
	atomic.AddInt64(&c.result.Objects, 1)
	atomic.AddInt64(&c.result.Bytes, i.Size)
	return nil
}

// keyCopy copies the copy of the newest key file.
func (c *copier) keyCopy(ctx context.Context) error {
	data, err := c.src.Get(ctx, blockcrypt.KeyCopyName, maxKeyFile)
	if errors.Is(err, remote.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	old, err := c.dst.Get(ctx, blockcrypt.KeyCopyName, maxKeyFile)
	if errors.Is(err, remote.ErrNotExist) {
		old, err = nil, nil
	}
	if err != nil || old != nil && bytes.Equal(old, data) {
		return err
	}
	return c.dst.Replace(ctx, blockcrypt.KeyCopyName, old, func([]byte) ([]byte, error) { return data, nil })
}
