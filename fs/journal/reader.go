package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"envfs/blockcrypt"
	"envfs/remote"
)

// maxCiphers bounds how many segments' ciphers a Reader keeps.
const maxCiphers = 64

// Reader reads contents back from segments. It may be used concurrently.
type Reader struct {
	store remote.Store
	vault blockcrypt.Vault
	keys  blockcrypt.KEKs

	mu      sync.Mutex
	ciphers map[string]*blockcrypt.SegmentCipher

	records sync.Pool // *[]byte
}

// NewReader returns a Reader of the journal on a store.
func NewReader(store remote.Store, vault blockcrypt.Vault, keys blockcrypt.KEKs) *Reader {
	return &Reader{
		store: store, vault: vault, keys: keys,
		ciphers: make(map[string]*blockcrypt.SegmentCipher),
		records: sync.Pool{New: func() any { return new([]byte) }},
	}
}

// Content appends the content that lies at ref of a segment to dst. It returns an error that wraps
// blockcrypt.ErrDamaged if what lies there is not that content, and the store's error if it cannot be read.
func (r *Reader) Content(ctx context.Context, segment string, ref blockcrypt.ContentRef, dst []byte) ([]byte, error) {
	if ref.Length > blockcrypt.BlockSize || ref.Offset > 1<<62 {
		return dst, fmt.Errorf("read content in %s: a content of %d bytes at %d", segment, ref.Length, ref.Offset)
	}
	c, err := r.cipher(ctx, segment)
	if err != nil {
		return dst, fmt.Errorf("read content in %s: %w", segment, err)
	}
	buf := r.records.Get().(*[]byte)
	defer r.records.Put(buf)
	n := ref.RecordLength()
	if cap(*buf) < n {
		*buf = make([]byte, n, blockcrypt.BlockSize+blockcrypt.RecordOverhead)
	}
	record := (*buf)[:n]
	if err := r.read(ctx, segment, record, int64(ref.Offset)); err != nil {
		return dst, fmt.Errorf("read content in %s: %w", segment, err)
	}
	out, err := c.OpenContent(dst, ref, record)
	if err != nil {
		return dst, fmt.Errorf("read content in %s: %w", segment, err)
	}
	return out, nil
}

func (r *Reader) read(ctx context.Context, segment string, p []byte, off int64) error {
	n, err := r.store.ReadAt(ctx, segment, p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("segment is too short: %w", blockcrypt.ErrDamaged)
	}
	return err
}

// cipher returns the cipher of a segment, whose prefix tells the key epoch.
func (r *Reader) cipher(ctx context.Context, segment string) (*blockcrypt.SegmentCipher, error) {
	r.mu.Lock()
	c := r.ciphers[segment]
	r.mu.Unlock()
	if c != nil {
		return c, nil
	}
	var p [blockcrypt.SegmentPrefixSize]byte
	if err := r.read(ctx, segment, p[:], 0); err != nil {
		return nil, err
	}
	prefix, err := r.vault.ParseSegmentPrefix(p[:])
	if err != nil {
		return nil, err
	}
	kek, err := r.keys.KEK(prefix.Epoch)
	if err != nil {
		return nil, err
	}
	if c, err = r.vault.NewSegmentCipher(kek, prefix.Epoch, segment); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ciphers) >= maxCiphers {
		for name := range r.ciphers { // any one
			delete(r.ciphers, name)
			break
		}
	}
	r.ciphers[segment] = c
	return c, nil
}
