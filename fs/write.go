package fs

import (
	"context"

	"envfs/blockcrypt"
)

// WriteAt writes p at off. The bytes survive the end of this process after Flush, and a power loss after Sync. killPriv
// takes away setuid, setgid and capabilities first.
func (h *File) WriteAt(ctx context.Context, p []byte, off int64, killPriv bool) (int, error) {
	c, f := h.c, h.c.fs
	if off < 0 || uint64(off)+uint64(len(p)) > MaxFileSize {
		return 0, ErrTooBig
	}
	if err := f.writable(); err != nil {
		return 0, err
	}
	if err := f.waitTurn(ctx, len(p)); err != nil {
		return 0, err
	}
	if err := f.throttle(ctx); err != nil {
		return 0, err
	}
	ctx = context.WithoutCancel(ctx)
	if killPriv {
		if err := f.dropPriv(ctx, c.ino); err != nil {
			return 0, err
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := f.admit(ctx, len(p), ordinary); err != nil {
		return 0, err
	}
	if f.dirtyBytes.Load()+int64(len(p)) > f.limits.dirty {
		if err := f.flushAll(ctx); err != nil {
			return 0, err
		}
		if err := c.harmed(); err != nil { // it would fill memory
			return 0, err
		}
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.write(ctx, p, uint64(off))
}

func (c *content) write(ctx context.Context, p []byte, off uint64) (done int, err error) {
	for done < len(p) {
		pos := off + uint64(done)
		n, within := pos/blockcrypt.BlockSize, int(pos%blockcrypt.BlockSize)
		part := p[done:min(len(p), done+blockcrypt.BlockSize-within)]
		b, err := c.lockBlock(ctx, n, len(part) == blockcrypt.BlockSize)
		if err != nil {
			if done == 0 {
				return 0, err
			}
			break
		}
		now := c.fs.now() // of each block: a flush may have taken those before, and times tell contents apart
		copy(b[within:], part)
		done += len(part)
		c.size = max(c.size, off+uint64(done))
		c.mtime, c.changed, c.refused = now, true, false
		c.mu.Unlock()
	}
	c.fs.noteDirty(c)
	return done, nil
}

// lockBlock takes c.mu and returns block n, made dirty: with what it holds so far, unless all of it is to be written
// (whole). After an error c.mu is not held. writeMu is, so that nobody else makes blocks dirty.
//
// That a block is dirty and that it is changed is one step: a flush in between would take the dirty block away, and
// what is written then must lie over what the flush has taken.
func (c *content) lockBlock(ctx context.Context, n uint64, whole bool) (*block, error) {
	c.mu.Lock()
	if b := c.dirty[n]; b != nil {
		return b, nil
	}
	if whole {
		return c.newDirty(n, nil), nil
	}
	old, known := c.inMemory(n)
	if known || n*blockcrypt.BlockSize >= c.size {
		return c.newDirty(n, old), nil
	}
	c.mu.Unlock()
	old = new(block)
	if err := c.readBlocks(ctx, n, old[:]); err != nil {
		return nil, err
	}
	c.mu.Lock()
	return c.newDirty(n, old), nil
}

// inMemory returns what memory alone says of block n: known is false if it says nothing, b nil if zeros. c.mu is held.
func (c *content) inMemory(n uint64) (b *block, known bool) {
	if b := c.dirty[n]; b != nil {
		return b, true
	}
	if n >= c.cut {
		return nil, true
	}
	if b := c.saving[n]; b != nil {
		return b, true
	}
	return nil, n >= c.oldCut
}

// newDirty makes block n dirty, with the content of old or zeros. c.mu is held.
func (c *content) newDirty(n uint64, old *block) *block {
	b := c.fs.blocks.Get().(*block)
	if old != nil {
		*b = *old
	} else {
		clear(b[:])
	}
	if c.dirty == nil {
		c.dirty = make(map[uint64]*block)
	}
	c.dirty[n] = b
	c.fs.dirtyBytes.Add(blockcrypt.BlockSize)
	return b
}

// dropPriv takes away setuid, setgid and capabilities.
func (f *FS) dropPriv(ctx context.Context, ino *Inode) error {
	needed := false
	err := f.view(ctx, func() error {
		e, err := f.entry(ino)
		if err == nil {
			needed = hasPriv(e)
		}
		return err
	})
	if err != nil || !needed {
		return err
	}
	now := f.now()
	return f.change(ctx, func() error {
		e, err := f.editable(ino)
		if err != nil {
			return err
		}
		killPriv(e)
		e.Attr.Ctime = now
		f.save(ino, e)
		return nil
	})
}

// truncate sets a file's size. The block that a cut goes through is sealed anew in the same batch, so that cut bytes
// never return.
func (f *FS) truncate(ctx context.Context, ino *Inode, size uint64) error {
	if err := f.writable(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	h, err := f.Open(ctx, ino)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := f.throttle(ctx); err != nil {
		return err
	}
	c := h.c
	u := ordinary
	if size < c.length() {
		u = freeing
	}
	if err := f.flushAll(ctx); err != nil && !(u == freeing && isFull(err)) {
		return err
	}
	if err := f.admit(ctx, 0, u); err != nil {
		return err
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if err := c.resize(ctx, size); err != nil {
		return err
	}
	f.noteDirty(c)
	return c.flush(ctx, flushClose, u)
}

func (c *content) resize(ctx context.Context, size uint64) error {
	first, within := size/blockcrypt.BlockSize, size%blockcrypt.BlockSize // the first block that goes
	if within != 0 && size < c.length() {
		b, err := c.lockBlock(ctx, first, false)
		if err != nil {
			return err
		}
		clear(b[within:])
		first++
	} else {
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if size < c.size {
		for n, b := range c.dirty {
			if n >= first {
				delete(c.dirty, n)
				c.fs.blocks.Put(b)
				c.fs.dirtyBytes.Add(-blockcrypt.BlockSize)
			}
		}
		c.cut = min(c.cut, first)
	}
	c.size, c.mtime, c.changed, c.refused = size, c.fs.now(), true, false
	return nil
}
