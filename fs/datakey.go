package fs

import (
	"context"
	"fmt"
	"slices"

	"envfs/blockcrypt"
	"envfs/fs/journal"
)

// renewKey gives the file a new data key if its newest one was made in an older key epoch than the newest: who was
// removed from the vault since may know that one, and shall not read what is written from now on. A file that has most
// data keys gets none. flushMu is held.
func (c *content) renewKey(ctx context.Context, u urgency, most int) error {
	f := c.fs
	epoch := f.keyring().Newest()
	var last blockcrypt.WrappedDEK
	var count int
	err := f.view(ctx, func() error {
		e, err := f.entry(c.ino)
		if err != nil {
			return err
		}
		keys, err := f.keysOf(e, f.layers())
		if err == nil {
			last, count = keys[len(keys)-1], len(keys)
		}
		return err
	})
	if err != nil || last.Born >= epoch {
		return err
	}
	if count >= most {
		return fmt.Errorf("%w: %s has data keys of %d key epochs, which is the most: `envfs key reencrypt` seals it under one", ErrNoSpace, label(c.id), count)
	}
	return c.addKey(ctx, u, last)
}

// maxKeys is up to how many data keys a file gets by being written to: one less than a header holds, so that it can be
// sealed anew.
const maxKeys = blockcrypt.MaxDEKs - 1

// addKey gives the file a new data key after its last one. flushMu is held, so that nobody else does.
func (c *content) addKey(ctx context.Context, u urgency, last blockcrypt.WrappedDEK) error {
	f := c.fs
	key, err := f.newDEK(c.id, last.Number+1)
	if err != nil {
		return err
	}
	f.retire(c)
	return f.apply(ctx, u, opRoom, func() error {
		e, err := f.editable(c.ino)
		if err != nil {
			return err
		}
		keys, err := f.keysOf(e, f.layers())
		if err != nil {
			return err
		}
		f.logFile(journal.Delta{Kind: journal.SetKeys, ID: c.id, Keys: append(slices.Clone(keys), key)})
		f.save(c.ino, e) // a fold looks at a file's content when it comes by its entry
		return nil
	})
}

// newDEK makes and wraps a data key; the key itself is forgotten at once.
func (f *FS) newDEK(id blockcrypt.ID, number uint32) (w blockcrypt.WrappedDEK, err error) {
	epoch := f.keyring().Newest()
	kek, err := f.keyring().KEK(epoch)
	if err != nil {
		return w, fmt.Errorf("make a data key: %w", err)
	}
	dek, w, err := f.vault.NewDEK(f.rand, kek, epoch, id, number)
	clear(dek[:])
	if err != nil {
		return w, fmt.Errorf("make a data key: %w", err)
	}
	return w, nil
}
