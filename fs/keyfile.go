package fs

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/remote"
)

// ErrNotNamed says that a key file is of the vault, but not the one that its root names.
var ErrNotNamed = errors.New("it is not the key file that root names")

// RestoreKeyFile puts the key file that the newest root names back into its place, and its copy envfs.json, if data is
// that file: whole or damaged, what lies there gives way. It needs no key, as root holds the file's hash. It reports
// whether there was anything to do. If data is another key file it returns ErrNotNamed.
func RestoreKeyFile(ctx context.Context, store remote.Store, data []byte) (restored bool, err error) {
	root, err := readRoot(ctx, store, "")
	if err != nil {
		return false, err
	}
	p, err := blockcrypt.ParseRootPrefix(root)
	if err != nil {
		return false, fmt.Errorf("read root: %w", versionOr(err))
	}
	if blockcrypt.Sum(data) != p.KeyFile.Hash {
		return false, ErrNotNamed
	}
	if there, err := store.Get(ctx, p.KeyFile.Name, keystore.MaxSize); err != nil || blockcrypt.Sum(there) != p.KeyFile.Hash {
		if err := store.Delete(ctx, p.KeyFile.Name); err != nil {
			return false, fmt.Errorf("remove what lies in the key file's place: %w", err)
		}
		if err := store.Put(ctx, p.KeyFile.Name, data); err != nil {
			return false, fmt.Errorf("put the key file back: %w", err)
		}
		restored = true
	}
	copied, err := store.Get(ctx, blockcrypt.KeyCopyName, keystore.MaxSize)
	switch {
	case errors.Is(err, remote.ErrNotExist):
		copied = nil
	case err != nil:
		return restored, fmt.Errorf("read %s: %w", blockcrypt.KeyCopyName, err)
	}
	if blockcrypt.Sum(copied) != p.KeyFile.Hash {
		err := store.Replace(ctx, blockcrypt.KeyCopyName, copied, func([]byte) ([]byte, error) { return data, nil })
		if err != nil {
			return restored, fmt.Errorf("put %s back: %w", blockcrypt.KeyCopyName, err)
		}
		restored = true
	}
	if err := store.Sync(ctx); err != nil {
		return restored, fmt.Errorf("sync: %w", err)
	}
	return restored, nil
}
