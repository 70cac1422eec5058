package fs

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
)

// ReencryptResult is what Reencrypt has done.
type ReencryptResult struct {
	Files   int64 `json:"files"`   // that have a new data key
	Bytes   int64 `json:"bytes"`   // of content sealed anew in extents
	Done    int64 `json:"done"`    // files of which all was sealed under a data key of the newest key epoch already
	Damaged int64 `json:"damaged"` // files and directories that cannot be read whole: files keep an old data key, also those in such a directory
}

// Reencrypt gives the file at path, or every file in the directory at path and below, a data key of the newest key
// epoch, and seals its whole content anew under it: so that who knew the old data keys has no use of what the store
// holds then. What superseded objects and copies of the store hold is not changed by that. It works beside all other
// use of the vault, and ends with a fold; what was done when it was broken off is not done again. progress, which may
// be nil, is told of bytes.
func (f *FS) Reencrypt(ctx context.Context, path string, progress func(done int64)) (ReencryptResult, error) {
	r := &reencrypter{f: f, progress: progress}
	work, done, err := f.works.begin(ctx)
	if err == nil {
		defer done()
		err = because(work, r.run(work, path))
	}
	if err != nil {
		err = fmt.Errorf("reencrypt: %w", err)
	}
	return r.res, err
}

type reencrypter struct {
	f        *FS
	res      ReencryptResult
	progress func(done int64)
}

func (r *reencrypter) run(ctx context.Context, path string) error {
	if err := r.f.writable(); err != nil {
		return err
	}
	if err := r.at(ctx, path); err != nil {
		return err
	}
	return r.f.Fold(ctx)
}

func (r *reencrypter) at(ctx context.Context, path string) error {
	ino, st, err := r.f.Resolve(ctx, path)
	if err != nil {
		return err
	}
	defer r.f.Forget(ino, 1)
	return r.node(ctx, ino, st)
}

func (r *reencrypter) node(ctx context.Context, ino *Inode, st Stat) error {
	switch st.Type {
	case blockcrypt.TypeRegular:
		return r.file(ctx, ino)
	case blockcrypt.TypeDirectory:
		return r.dir(ctx, ino)
	}
	return nil
}

func (r *reencrypter) dir(ctx context.Context, ino *Inode) error {
	var names []string
	err := r.f.ReadDir(ctx, ino, cookieDotDot, func(e DirEntry) bool {
		names = append(names, e.Name)
		return true
	})
	if err != nil {
		return r.harmed(err)
	}
	for _, name := range names {
		c, st, err := r.f.Lookup(ctx, ino, name)
		if errors.Is(err, ErrNotExist) || errors.Is(err, ErrStale) {
			continue // removed meanwhile
		}
		if harms(err) {
			r.res.Damaged++ // with a part of the directory
			continue
		}
		if err != nil {
			return err
		}
		err = r.node(ctx, c, st)
		r.f.Forget(c, 1)
		if err != nil {
			return err
		}
	}
	return nil
}

// file seals the content of one file anew, if any of it is under a data key of an older epoch.
func (r *reencrypter) file(ctx context.Context, ino *Inode) error {
	f := r.f
	h, err := f.Open(ctx, ino)
	if errors.Is(err, ErrStale) || errors.Is(err, ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return r.harmed(err)
	}
	defer h.Close()
	epoch := f.keyring().Newest()
	keys, err := h.c.keys(ctx)
	if err != nil {
		return r.harmed(err)
	}
	if keys[0].Born >= epoch { // the first of them is the oldest
		r.res.Done++
		return nil
	}
	h.c.flushMu.Lock()
	err = h.c.renewKey(ctx, ordinary, blockcrypt.MaxDEKs)
	h.c.flushMu.Unlock()
	if err != nil {
		return r.harmed(err)
	}
	if keys, err = h.c.keys(ctx); err != nil {
		return r.harmed(err)
	}
	fresh := make(map[uint32]bool)
	for _, k := range keys {
		fresh[k.Number] = k.Born >= epoch
	}
	moved, err := f.moveOut(ctx, h, func(x *blockcrypt.ExtentInfo) bool { return !fresh[x.DEK] })
	r.res.Bytes += moved
	if err != nil {
		return r.harmed(err)
	}
	r.res.Files++
	if r.progress != nil {
		r.progress(r.res.Bytes)
	}
	return nil
}

// harmed counts a file or directory that is damaged, and returns every other error.
func (r *reencrypter) harmed(err error) error {
	if !harms(err) {
		return err
	}
	r.res.Damaged++
	return nil
}

// keys returns the file's data keys, in order.
func (c *content) keys(ctx context.Context) (keys []blockcrypt.WrappedDEK, err error) {
	f := c.fs
	err = f.view(ctx, func() error {
		e, err := f.entry(c.ino)
		if err != nil {
			return err
		}
		keys, err = f.keysOf(e, f.layers())
		return err
	})
	return keys, err
}
