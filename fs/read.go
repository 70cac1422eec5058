package fs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"envfs/blockcrypt"
	"envfs/remote"
)

// piece is a run of blocks with all that is needed to read it without a lock.
type piece struct {
	run    blockcrypt.Run
	inline inlineRef              // RunJournal
	head   *header                // RunHeader
	ext    blockcrypt.ExtentInfo  // RunExtent
	key    *blockcrypt.WrappedDEK // RunExtent, RunHeader
}

// errUnplaced says that a block was written and flushed since memory was looked at, and that its batch is not appended
// yet: memory has it now.
var errUnplaced = errors.New("block is on its way to the journal")

// maxRead is how many sealed bytes are read from the store at a time.
const maxRead = 256 * blockcrypt.ExtentRecordSize

// read fills p, which lies within the file, from off.
func (c *content) read(ctx context.Context, p []byte, off uint64) error {
	first := off / blockcrypt.BlockSize
	within := int(off % blockcrypt.BlockSize)
	c.readAhead(ctx, first, uint64(len(p)+blockcrypt.BlockSize-1)/blockcrypt.BlockSize)
	if within == 0 && len(p)%blockcrypt.BlockSize == 0 {
		return c.readBlocks(ctx, first, p)
	}
	blocks := (within + len(p) + blockcrypt.BlockSize - 1) / blockcrypt.BlockSize
	buf := c.fs.buffer(blocks * blockcrypt.BlockSize)
	defer c.fs.recycle(buf)
	whole := (*buf)[:blocks*blockcrypt.BlockSize]
	if err := c.readBlocks(ctx, first, whole); err != nil {
		return err
	}
	copy(p, whole[within:])
	return nil
}

// readBlocks fills p, a whole number of blocks, from block first. What is dirty is looked at first: a block that is
// flushed meanwhile is then found where the flush put it.
func (c *content) readBlocks(ctx context.Context, first uint64, p []byte) error {
	count := uint64(len(p) / blockcrypt.BlockSize)
	if c.settled() {
		err := c.readStored(ctx, first, p)
		if !errors.Is(err, errUnplaced) {
			return err
		}
	}
	from := uint64(0) // blocks before are done
	for i := uint64(0); i <= count; i++ {
		var have bool
		if i < count {
			have = c.memoryBlock(first+i, p[i*blockcrypt.BlockSize:][:blockcrypt.BlockSize])
		}
		if i < count && !have {
			continue
		}
		if from < i {
			part := p[from*blockcrypt.BlockSize : i*blockcrypt.BlockSize]
			err := c.readStored(ctx, first+from, part)
			if errors.Is(err, errUnplaced) {
				err = c.readBlocks(ctx, first+from, part)
			}
			if err != nil {
				return err
			}
		}
		from = i + 1
	}
	return nil
}

// settled reports whether memory alone knows nothing of the content.
func (c *content) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.dirty) == 0 && len(c.saving) == 0 && c.cut == noCut && c.oldCut == noCut
}

// memoryBlock copies block n into p if memory alone knows it.
func (c *content) memoryBlock(n uint64, p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, known := c.inMemory(n)
	switch {
	case b != nil:
		copy(p, b[:])
	case known:
		clear(p)
	}
	return known
}

// readStored fills p from the store.
func (c *content) readStored(ctx context.Context, first uint64, p []byte) error {
	err := c.tryStored(ctx, first, p)
	if errors.Is(err, remote.ErrNotExist) {
		// Under want of space an object may be deleted that a moment ago was still named: look again.
		f := c.fs
		f.caughtUp(ctx)
		err = c.tryStored(ctx, first, p)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, errUnplaced) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, remote.ErrNotExist) {
		err = missingIsDamage(err)
	}
	return c.fs.report(c.wrap("read", err))
}

func (c *content) tryStored(ctx context.Context, first uint64, p []byte) error {
	pieces, err := c.fs.resolve(ctx, c, first, uint64(len(p)/blockcrypt.BlockSize))
	if err != nil {
		return err
	}
	for i := range pieces {
		pc := &pieces[i]
		part := p[(pc.run.Start-first)*blockcrypt.BlockSize:][:pc.run.Count*blockcrypt.BlockSize]
		err := c.fs.readPiece(ctx, c.id, pc, part)
		if c.fs.forget(pc.object(c.id), err) {
			err = c.fs.readPiece(ctx, c.id, pc, part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// object names where the piece lies.
func (pc *piece) object(id blockcrypt.ID) string {
	switch pc.run.Kind {
	case blockcrypt.RunExtent:
		return extentName(id, &pc.ext)
	case blockcrypt.RunJournal:
		return pc.inline.segment
	}
	return label(id)
}

// readPiece fills p with the blocks of one run.
func (f *FS) readPiece(ctx context.Context, id blockcrypt.ID, pc *piece, p []byte) error {
	err := f.readRun(ctx, id, pc, p)
	if err == nil || errors.Is(err, errUnplaced) {
		return err
	}
	return &objectError{pc.object(id), id, err}
}

func (f *FS) readRun(ctx context.Context, id blockcrypt.ID, pc *piece, p []byte) error {
	switch pc.run.Kind {
	case blockcrypt.RunHole:
		clear(p)
		return nil
	case blockcrypt.RunExtent:
		return f.readExtent(ctx, id, pc, p)
	case blockcrypt.RunHeader:
		return f.readInline(id, pc, p)
	case blockcrypt.RunJournal:
		if pc.inline.segment == "" {
			return errUnplaced
		}
		got, err := f.contents.Content(ctx, pc.inline.segment, pc.inline.ref, p[:0])
		if err != nil {
			return fmt.Errorf("batch at %d: %w", pc.inline.ref.Offset, damaged(err))
		}
		clear(p[copy(p, got):])
		return nil
	}
	return fmt.Errorf("%w: unknown kind of run", ErrDamaged)
}

// damaged marks what authentication refused.
func damaged(err error) error {
	if errors.Is(err, blockcrypt.ErrDamaged) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, remote.ErrNotObject) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

func (f *FS) readExtent(ctx context.Context, id blockcrypt.ID, pc *piece, p []byte) error {
	x, err := f.reader(id, &pc.ext, pc.key)
	if err != nil {
		return err
	}
	if uint64(pc.run.Slot)+pc.run.Count > uint64(pc.ext.Slots) {
		return fmt.Errorf("%w: the map names slots that it does not have", ErrDamaged)
	}
	for done := uint64(0); done < pc.run.Count; {
		n := min(pc.run.Count-done, maxRead/blockcrypt.ExtentRecordSize)
		slot := pc.run.Slot + uint32(done)
		err := f.readSlots(ctx, x, slot, pc.run.Start+done, p[done*blockcrypt.BlockSize:][:n*blockcrypt.BlockSize])
		if err != nil {
			return err
		}
		done += n
	}
	return nil
}

func (f *FS) readSlots(ctx context.Context, x *extentReader, slot uint32, first uint64, p []byte) error {
	n := len(p) / blockcrypt.BlockSize * blockcrypt.ExtentRecordSize
	if v, ok := f.store.(remote.Viewer); ok {
		if sealed, release, ok := v.View(ctx, x.name, extentOffset(slot), n); ok {
			defer release()
			return x.open(p, sealed, slot, first)
		}
	}
	buf := f.buffer(n)
	defer f.recycle(buf)
	sealed := (*buf)[:n]
	if _, err := f.store.ReadAt(ctx, x.name, sealed, extentOffset(slot)); err != nil {
		return fmt.Errorf("slot %d: %w", slot, damaged(err))
	}
	return x.open(p, sealed, slot, first)
}

// open fills p with the sealed blocks of the slots from slot on, which hold those from block first on.
func (x *extentReader) open(p, sealed []byte, slot uint32, first uint64) error {
	for i := range len(p) / blockcrypt.BlockSize {
		record := sealed[i*blockcrypt.ExtentRecordSize:][:blockcrypt.ExtentRecordSize]
		dst := p[i*blockcrypt.BlockSize:][:0:blockcrypt.BlockSize]
		if _, err := x.cipher.Open(dst, record, slot+uint32(i), first+uint64(i)); err != nil {
			return fmt.Errorf("slot %d: %w", slot+uint32(i), damaged(err))
		}
	}
	return nil
}

// extentOffset is where a slot begins in an extent.
func extentOffset(slot uint32) int64 {
	return blockcrypt.ExtentPrefixSize + int64(slot)*blockcrypt.ExtentRecordSize
}

// readInline fills p with blocks that lie in the file's header.
func (f *FS) readInline(id blockcrypt.ID, pc *piece, p []byte) error {
	hd := pc.head.head
	cipher, err := f.inlineCipher(id, hd, pc.key)
	if err != nil {
		return err
	}
	for i := range pc.run.Count {
		index := pc.run.Slot + uint32(i)
		record, err := inlineRecord(pc.head, index)
		if err != nil {
			return err
		}
		dst := p[i*blockcrypt.BlockSize:][:0:blockcrypt.BlockSize]
		got, err := cipher.Open(dst, record, index, pc.run.Start+i)
		if err != nil {
			return fmt.Errorf("inline block %d: %w", index, damaged(err))
		}
		clear(p[i*blockcrypt.BlockSize:][len(got):blockcrypt.BlockSize])
	}
	return nil
}

// sealOverhead is what sealing adds to an inline block: nonce and tag.
const sealOverhead = blockcrypt.ExtentRecordSize - blockcrypt.BlockSize

// inlineRecord returns the sealed record of one inline block.
func inlineRecord(hd *header, index uint32) ([]byte, error) {
	lens := hd.head.InlineLen
	if uint64(index) >= uint64(len(lens)) {
		return nil, fmt.Errorf("%w: no such inline block", ErrDamaged)
	}
	start := 0
	for _, n := range lens[:index] {
		start += int(n) + sealOverhead
	}
	end := start + int(lens[index]) + sealOverhead
	if end > len(hd.inline) {
		return nil, fmt.Errorf("%w: inline blocks are cut off", ErrDamaged)
	}
	return hd.inline[start:end], nil
}
