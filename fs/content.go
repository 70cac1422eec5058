package fs

import (
	"container/list"
	"context"
	"fmt"
	"math"
	"sync"

	"envfs/blockcrypt"
)

// block is the plaintext of one block; bytes beyond the file's end are zero.
type block [blockcrypt.BlockSize]byte

// content is the content of a regular file that is open or has bytes that are not in the journal yet.
//
// Locks, in the order in which they are taken: writeMu (one writer or truncation of the file at a time), flushMu (one
// flush at a time), FS.mu, mu. Only mu is needed to read.
type content struct {
	fs  *FS
	id  blockcrypt.ID
	ino *Inode

	opens int // handles; guarded by FS.mu

	writeMu sync.Mutex
	flushMu sync.Mutex
	cur     *extent       // that flushes append to; guarded by flushMu
	grows   *list.Element // in FS.growing, whose lock guards it

	mu       sync.Mutex
	size     uint64
	mtime    blockcrypt.Time
	changed  bool              // size and mtime are newer than in the entry
	saved    bool              // a flush carries them to the entry
	dirty    map[uint64]*block // not yet flushed
	saving   map[uint64]*block // being flushed: still the truth for readers
	cut      uint64            // dirty: blocks from here on were cut off before they were written again; or noCut
	oldCut   uint64            // the same of saving
	refused  bool              // whoever wrote what is dirty was told that there is no space for it
	sequence sequence          // of reads

	harm    error  // what is dirty cannot be saved, as something that it needs is damaged
	moments uint64 // how often others have changed it, as a follower has seen
}

const noCut = math.MaxUint64

// File is an open regular file. All methods may be called concurrently.
type File struct {
	c     *content
	once  sync.Once
	stale bool
}

// Unchanged reports whether what a kernel has kept of the file's content was still true when it was opened. Of what nobody
// else changes it always is.
func (h *File) Unchanged() bool { return !h.stale }

// Open opens a regular file.
func (f *FS) Open(ctx context.Context, ino *Inode) (h *File, err error) {
	if ino.typ == blockcrypt.TypeDirectory {
		return nil, ErrIsDir
	}
	if ino.typ != blockcrypt.TypeRegular {
		return nil, ErrInvalid
	}
	err = f.view(ctx, func() error {
		if ino.ghost != nil {
			return ErrStale
		}
		e, err := f.entry(ino)
		if err != nil {
			return err
		}
		h = f.openContent(ino, e)
		return nil
	})
	return h, err
}

// openContent returns a new handle of the file with entry e. FS.mu is held.
func (f *FS) openContent(ino *Inode, e *blockcrypt.Entry) *File {
	c := ino.content
	if c == nil {
		c = &content{fs: f, id: ino.id, ino: ino, size: e.Attr.Size, cut: noCut, oldCut: noCut}
		ino.content = c
	}
	c.opens++
	return &File{c: c, stale: f.follower != nil && f.openSeen(ino, e)}
}

// Close releases the handle. What was written stays to be flushed.
func (h *File) Close() {
	h.once.Do(func() {
		c := h.c
		c.fs.mu.Lock()
		c.opens--
		last := c.opens == 0
		c.fs.mu.Unlock()
		if last {
			c.fs.lastClose(context.Background(), c)
		}
	})
}

// lastClose lets go of a content that no handle refers to, after what is dirty has been flushed.
func (f *FS) lastClose(ctx context.Context, c *content) {
	nameless := false
	f.mu.Lock()
	nameless = c.ino.in == f.nameless && c.opens == 0 && c.ino.ghost == nil
	f.mu.Unlock()
	if nameless && !f.readOnly {
		if err := f.dropNameless(ctx, c.ino); err != nil {
			f.logger.Warn("a file without a name was not removed; the next mount will", "file", c.id.String(), "cause", err)
		}
	}
	// What was dropped is forgotten by this; what has been opened again meanwhile was not dropped.
	if err := c.flush(ctx, flushClose, ordinary); err != nil {
		return // stays, to be tried again by the next flush of all
	}
	c.flushMu.Lock()
	defer c.flushMu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.opens > 0 || c.unsaved() || c.ino.content != c {
		return
	}
	f.retire(c)
	c.ino.content = nil
	f.release(c.ino)
}

// unsaved reports whether something is not in the journal yet.
func (c *content) unsaved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed || len(c.dirty) > 0 || len(c.saving) > 0
}

// discardLocked forgets what was not flushed, of a file that is dropped. flushMu is held.
func (c *content) discardLocked() {
	c.mu.Lock()
	c.fs.dirtyBytes.Add(-int64(len(c.dirty)) * blockcrypt.BlockSize)
	for _, b := range c.dirty {
		c.fs.blocks.Put(b)
	}
	c.dirty, c.changed, c.refused, c.harm = nil, false, false, nil
	c.mu.Unlock()
	c.fs.forgetDirty(c)
}

// overlay puts what is newer than the entry into st.
func (c *content) overlay(st *Stat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed || c.saved {
		st.Size, st.Mtime, st.Ctime = c.size, c.mtime, c.mtime
	}
}

// length returns the file's size.
func (c *content) length() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// Flush makes what was written survive the end of this process: close(2).
func (h *File) Flush(ctx context.Context) error {
	if h.c.fs.readOnly {
		return nil
	}
	return h.c.told(h.c.flush(context.WithoutCancel(ctx), flushClose, ordinary))
}

// Sync makes what was written survive a power loss: fsync(2), fdatasync(2).
func (h *File) Sync(ctx context.Context) error {
	if h.c.fs.readOnly {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if err := h.c.told(h.c.flush(ctx, flushSync, ordinary)); err != nil {
		return err
	}
	return h.c.fs.syncFor(ctx)
}

// told notes that who wrote to the file is about to be told err.
func (c *content) told(err error) error {
	if isFull(err) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refused = c.changed || len(c.dirty) > 0
	}
	return err
}

// isRefused reports whether all that is dirty was refused.
func (c *content) isRefused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// harmed returns why what is dirty cannot be saved, if so.
func (c *content) harmed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.harm
}

// ReadAt reads into p from off, and returns how many bytes there were: fewer than len(p) only at the end of the file.
func (h *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	c := h.c
	if off < 0 {
		return 0, ErrInvalid
	}
	for {
		size, moment := c.now()
		if uint64(off) >= size {
			return 0, nil
		}
		part := p[:min(uint64(len(p)), size-uint64(off))]
		err := c.read(ctx, part, uint64(off))
		if _, now := c.now(); now != moment {
			continue // it was partly the one content, partly the other
		}
		if err != nil {
			return 0, err
		}
		return len(part), nil
	}
}

// now returns the file's size, and which of the contents that a follower has seen it is.
func (c *content) now() (size, moment uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size, c.moments
}

// Seek returns the offset of the next data (data true) or hole at or after off; ErrNoData if there is none.
func (h *File) Seek(ctx context.Context, off int64, data bool) (int64, error) {
	c := h.c
	if err := h.Flush(ctx); err != nil {
		return 0, err
	}
	size := c.length()
	if off < 0 || uint64(off) >= size {
		return 0, ErrNoData
	}
	blocks := (size + blockcrypt.BlockSize - 1) / blockcrypt.BlockSize
	for n := uint64(off) / blockcrypt.BlockSize; n < blocks; {
		count := min(blocks-n, seekChunk)
		pieces, err := c.fs.resolve(ctx, c, n, count)
		if err != nil {
			return 0, err
		}
		for _, p := range pieces {
			if (p.run.Kind != blockcrypt.RunHole) == data {
				return int64(max(uint64(off), p.run.Start*blockcrypt.BlockSize)), nil
			}
		}
		n += count
	}
	if data {
		return 0, ErrNoData
	}
	return int64(size), nil
}

// seekChunk is how many blocks Seek looks up at a time.
const seekChunk = 4096

func (c *content) wrap(op string, err error) error {
	return fmt.Errorf("%s %s: %w", op, label(c.id), err)
}
