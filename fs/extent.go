package fs

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"

	"envfs/blockcrypt"
	"envfs/remote"
)

// extent is an extent that this process appends to. Only the flush that holds its file's flushMu touches it, but for
// closing (sync.go).
type extent struct {
	info   blockcrypt.ExtentInfo
	commit [32]byte
	name   string
	file   remote.File
	cipher *blockcrypt.BlockCipher
	layer  uint64 // number of the active layer it was made in: after a freeze it is closed
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newExtent makes an empty extent for a file, sealed under its newest data key.
func (f *FS) newExtent(ctx context.Context, id blockcrypt.ID, key *blockcrypt.WrappedDEK, number uint32, layer, birth uint64) (*extent, error) {
	x := &extent{info: blockcrypt.ExtentInfo{Number: number, DEK: key.Number}, commit: key.Commit, layer: layer}
	for _, p := range [][]byte{x.info.Generation[:], x.info.Extra[:]} {
		if _, err := io.ReadFull(f.rand, p); err != nil {
			return nil, fmt.Errorf("draw an extent's generation: %w", err)
		}
	}
	r, err := blockcrypt.NewR(f.rand, f.term.Tag)
	if err != nil {
		return nil, fmt.Errorf("draw an extent's version: %w", err)
	}
	x.info.Ver = blockcrypt.Version{Birth: birth, R: r}
	x.name = extentName(id, &x.info)
	if x.cipher, err = f.extentCipher(id, x.info.Generation, key); err != nil {
		return nil, err
	}
	if x.file, err = f.local.Create(ctx, x.name); err != nil {
		return nil, fmt.Errorf("create extent %s: %w", x.name, err)
	}
	return x, nil
}

func extentName(id blockcrypt.ID, x *blockcrypt.ExtentInfo) string {
	return blockcrypt.Name{Kind: blockcrypt.KindExtent, ID: id, Seq: x.Ver.Birth, R: x.Ver.R, Extra: x.Extra}.String()
}

// extentCipher opens a data key just long enough to derive an extent's key from it.
func (f *FS) extentCipher(id blockcrypt.ID, gen [16]byte, key *blockcrypt.WrappedDEK) (*blockcrypt.BlockCipher, error) {
	return f.deriveCipher(id, gen, key, f.vault.NewExtentCipher)
}

type newCipher func(dek *[32]byte, file blockcrypt.ID, gen [16]byte) (*blockcrypt.BlockCipher, error)

func (f *FS) deriveCipher(id blockcrypt.ID, gen [16]byte, key *blockcrypt.WrappedDEK, derive newCipher) (*blockcrypt.BlockCipher, error) {
	if key == nil {
		return nil, fmt.Errorf("%s: %w: no data key", label(id), ErrDamaged)
	}
	dek, err := f.vault.UnwrapDEK(f.keyring(), id, *key)
	if err != nil {
		return nil, fmt.Errorf("open data key of %s: %w", label(id), damaged(err))
	}
	defer clear(dek[:])
	return derive(&dek, id, gen)
}

// append seals whole blocks, blocks[i] being the logical block at[i], and writes them with as few system calls as
// the buffer allows. After an error the extent must not be used any more.
func (f *FS) append(x *extent, at []uint64, blocks []*block) error {
	for len(at) > 0 {
		n := min(len(at), maxAppend)
		if err := f.appendChunk(x, at[:n], blocks[:n]); err != nil {
			return fmt.Errorf("append to extent %s: %w", x.name, err)
		}
		at, blocks = at[n:], blocks[n:]
	}
	return nil
}

// maxAppend is how many blocks are written at a time.
const maxAppend = 256

func (f *FS) appendChunk(x *extent, at []uint64, blocks []*block) error {
	buf := f.buffer(blockcrypt.ExtentPrefixSize + len(at)*blockcrypt.ExtentRecordSize)
	defer f.recycle(buf)
	out := (*buf)[:0]
	if x.info.Slots == 0 {
		prefix := blockcrypt.ExtentPrefix(x.info.Generation, x.info.DEK, x.commit)
		out = append(out, prefix[:]...)
	}
	nonces := make([]byte, len(at)*nonceSize)
	if _, err := io.ReadFull(f.rand, nonces); err != nil {
		return fmt.Errorf("draw nonces: %w", err)
	}
	for i, n := range at {
		out = x.cipher.Seal(out, nonces[i*nonceSize:][:nonceSize], blocks[i][:], x.info.Slots+uint32(i), n)
	}
	f.space.spend(len(out))
	if err := x.file.Append(out); err != nil {
		return err
	}
	x.info.CRC32C = crc32.Update(x.info.CRC32C, castagnoli, out)
	x.info.Length += uint64(len(out))
	x.info.Slots += uint32(len(at))
	return nil
}

const nonceSize = 12

// extentReader is what reading an extent takes.
type extentReader struct {
	name   string
	cipher *blockcrypt.BlockCipher
}

// maxReaders bounds how many extents' keys are kept ready.
const maxReaders = 1024

// reader returns what reading an extent takes; it is kept for the next time.
func (f *FS) reader(id blockcrypt.ID, x *blockcrypt.ExtentInfo, key *blockcrypt.WrappedDEK) (*extentReader, error) {
	f.readersMu.Lock()
	r := f.readers[x.Generation]
	f.readersMu.Unlock()
	if r != nil {
		return r, nil
	}
	cipher, err := f.extentCipher(id, x.Generation, key)
	if err != nil {
		return nil, err
	}
	r = &extentReader{name: extentName(id, x), cipher: cipher}
	f.readersMu.Lock()
	defer f.readersMu.Unlock()
	for gen := range f.readers {
		if len(f.readers) < maxReaders {
			break
		}
		delete(f.readers, gen)
	}
	f.readers[x.Generation] = r
	return r, nil
}

func (f *FS) inlineCipher(id blockcrypt.ID, hd *blockcrypt.Header, key *blockcrypt.WrappedDEK) (*blockcrypt.BlockCipher, error) {
	return f.deriveCipher(id, hd.InlineGen, key, f.vault.NewInlineCipher)
}

// buffer returns a buffer of at least n bytes; recycle takes it back.
func (f *FS) buffer(n int) *[]byte {
	buf := f.buffers.Get().(*[]byte)
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	*buf = (*buf)[:cap(*buf)]
	return buf
}

func (f *FS) recycle(buf *[]byte) { f.buffers.Put(buf) }
