package fs

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"envfs/blockcrypt"
	"envfs/fs/filemap"
	"envfs/remote"
)

// header reads a file's header and map. spare is what is wrong with its extents, if that is not already fatal to the
// file: reading its blocks will tell whether they are concerned.
func (c *checker) header(ctx context.Context, ino *Inode) (spare, err error) {
	var e *blockcrypt.Entry
	err = c.f.view(ctx, func() (err error) {
		e, err = c.f.entry(ino)
		return err
	})
	if err != nil || e.Head.IsZero() {
		return nil, err
	}
	v, err := c.fetch(ctx, headerMiss(e.ID, e.Head))
	if err != nil || v == nil {
		return nil, err
	}
	hd, err := cast[*header](v)
	if err != nil {
		return nil, err
	}
	extents, _, err := filemap.Objects(ctx, hd.head, func(ctx context.Context, key filemap.PageKey) (*filemap.Page, error) {
		v, err := c.fetch(ctx, mapMiss(e.ID, key))
		if err != nil {
			return nil, err
		}
		return cast[*filemap.Page](v)
	})
	for i := range extents {
		if xerr := c.extent(ctx, e.ID, hd.deks, &extents[i]); xerr != nil && spare == nil {
			spare = xerr
		}
	}
	return spare, err
}

// errSpare says that bytes of an extent are altered which the file may not need: its prefix, or blocks that were
// overwritten since.
var errSpare = errors.New("not what was written")

// extent compares the prefix and all bytes of an extent, also those that no block of the file lies in any more, with
// what its table says. Reading the file authenticates the blocks it needs.
func (c *checker) extent(ctx context.Context, id blockcrypt.ID, deks []blockcrypt.WrappedDEK, x *blockcrypt.ExtentInfo) error {
	name := extentName(id, x)
	sum := uint32(0)
	for off := uint64(0); off < x.Length; {
		p := c.buf[:min(uint64(len(c.buf)), x.Length-off)]
		if _, err := c.f.store.ReadAt(ctx, name, p, int64(off)); err != nil {
			if errors.Is(err, remote.ErrNotExist) {
				return nil // reading the file tells, unless a fold has superseded it meanwhile
			}
			return fmt.Errorf("extent %s: %w: %w", name, errSpare, err)
		}
		if off == 0 {
			for i := range deks {
				if deks[i].Number != x.DEK {
					continue
				}
				if err := blockcrypt.CheckExtentPrefix(p, x.Generation, x.DEK, deks[i].Commit); err != nil {
					return fmt.Errorf("extent %s: %w: %w", name, errSpare, err)
				}
			}
		}
		sum = crc32.Update(sum, castagnoli, p)
		off += uint64(len(p))
	}
	if sum != x.CRC32C {
		return fmt.Errorf("extent %s: %w: checksum", name, errSpare)
	}
	return nil
}
