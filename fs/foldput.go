package fs

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"

	"envfs/blockcrypt"
)

// What a fold puts into the store.

// setHead notes what was written for a file or directory.
func (fo *folding) setHead(id blockcrypt.ID, h head) {
	fo.heads[id] = h
	fo.order = append(fo.order, id)
}

// seal seals an object of the new tree, and returns its name.
func (fo *folding) seal(n blockcrypt.Name, body []byte) (blockcrypt.Name, []byte, error) {
	f := fo.f
	n.Seq, n.R = fo.number, fo.r
	if n.Kind != blockcrypt.KindIndex {
		if _, err := io.ReadFull(f.rand, n.Extra[:]); err != nil {
			return n, nil, fmt.Errorf("draw an object's name: %w", err)
		}
	}
	data, err := f.vault.SealObject(f.rand, fo.kek, fo.epoch, n.Kind, n.String(), body)
	if err != nil {
		return n, nil, fmt.Errorf("seal %s: %w", n.String(), err)
	}
	return n, data, nil
}

// put seals an object of the new tree and stores it.
func (fo *folding) put(ctx context.Context, n blockcrypt.Name, body []byte) (blockcrypt.PageRef, error) {
	n, data, err := fo.seal(n, body)
	if err != nil {
		return blockcrypt.PageRef{}, err
	}
	hash, err := fo.store(ctx, n.String(), data)
	return blockcrypt.PageRef{Ver: blockcrypt.Version{Birth: fo.number, R: fo.r}, Extra: n.Extra, Hash: hash}, err
}

// store stores an object whole, and notes its birth.
func (fo *folding) store(ctx context.Context, name string, data []byte) (blockcrypt.Hash, error) {
	hash, born, err := fo.putObject(ctx, name, data)
	if err == nil {
		fo.born = append(fo.born, born)
	}
	return hash, err
}

// putObject stores an object of the new tree, and returns its hash and what a fold record says of it. It may run beside
// others of its kind.
func (fo *folding) putObject(ctx context.Context, name string, data []byte) (blockcrypt.Hash, blockcrypt.Born, error) {
	put := fo.f.store.Put
	if fo.f.shared != nil {
		put = fo.f.shared.PutLater
	}
	if err := put(ctx, name, data); err != nil {
		return blockcrypt.Hash{}, blockcrypt.Born{}, fmt.Errorf("store %s: %w", name, err)
	}
	hash := blockcrypt.Sum(data)
	return hash, blockcrypt.Born{Name: name, Length: uint64(len(data)), CRC32C: crc32.Checksum(data, castagnoli), Hash: hash}, nil
}

// bearExtent notes the birth of an extent.
func (fo *folding) bearExtent(id blockcrypt.ID, x *blockcrypt.ExtentInfo) {
	fo.born = append(fo.born, blockcrypt.Born{Name: extentName(id, x), Length: x.Length, CRC32C: x.CRC32C})
}
