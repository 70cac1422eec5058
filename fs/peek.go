package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/remote"
)

// Peek reads, without a key, the clear prefix of a root ("" for the newest) and the key file that it names.
func Peek(ctx context.Context, store remote.Store, rootName string) (*keystore.File, blockcrypt.RootPrefix, error) {
	data, err := readRoot(ctx, store, rootName)
	if err != nil {
		return nil, blockcrypt.RootPrefix{}, err
	}
	p, err := blockcrypt.ParseRootPrefix(data)
	if err != nil {
		return nil, p, fmt.Errorf("read root: %w", versionOr(err))
	}
	kf, err := store.Get(ctx, p.KeyFile.Name, maxKeyFile)
	if errors.Is(err, remote.ErrNotExist) && rootName == "" && !altered(ctx, store, &p, data) {
		if older := rootWithKeys(ctx, store); older != "" {
			return nil, p, fmt.Errorf("read key file: %w: it came after what was copied; the newest root that has its key file here is %s (--root): %w",
				ErrIncomplete, older, err)
		}
	}
	if err != nil {
		return nil, p, fmt.Errorf("read key file: %w: %w", ErrDamaged, err)
	}
	if blockcrypt.Sum(kf) != p.KeyFile.Hash {
		return nil, p, fmt.Errorf("read key file %s: %w", p.KeyFile.Name, ErrDamaged)
	}
	file, err := keystore.Parse(kf)
	if errors.Is(err, keystore.ErrNewerVersion) {
		err = fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return file, p, err
}

// altered reports whether root differs from its copy in roots/, as far as that is there.
func altered(ctx context.Context, store remote.Store, p *blockcrypt.RootPrefix, root []byte) bool {
	kept, err := store.Get(ctx, p.Name().String(), blockcrypt.MaxRoot)
	return err == nil && !bytes.HasPrefix(root, kept)
}

// rootWithKeys returns the name of the newest root in roots/ whose key file is there, or "".
func rootWithKeys(ctx context.Context, store remote.Store) (newest string) {
	var seq uint64
	_ = store.List(ctx, "roots/", func(i remote.Info) error { // whoever asks has an error to tell
		n, err := blockcrypt.ParseName(i.Name)
		if err != nil || n.Seq <= seq {
			return nil
		}
		data, err := store.Get(ctx, i.Name, blockcrypt.MaxRoot)
		if err != nil {
			return nil
		}
		p, err := blockcrypt.ParseRootPrefix(data)
		if err != nil {
			return nil
		}
		if kf, err := store.Get(ctx, p.KeyFile.Name, maxKeyFile); err == nil && blockcrypt.Sum(kf) == p.KeyFile.Hash {
			newest, seq = i.Name, n.Seq
		}
		return nil
	})
	return newest
}

func versionOr(err error) error {
	if errors.Is(err, blockcrypt.ErrVersion) {
		return fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return damaged(err)
}

// readRoot returns a root's bytes, or tells what is there instead of one.
func readRoot(ctx context.Context, store remote.Store, name string) ([]byte, error) {
	if name == "" {
		name = blockcrypt.RootName
	}
	data, err := store.Get(ctx, name, blockcrypt.MaxRoot)
	if err == nil || !errors.Is(err, remote.ErrNotExist) || name != blockcrypt.RootName {
		if err != nil {
			err = fmt.Errorf("read %s: %w", name, damaged(err))
		}
		return data, err
	}
	half := false
	err = store.List(ctx, "", func(i remote.Info) error {
		n, err := blockcrypt.ParseName(i.Name)
		switch {
		case err != nil:
		case n.Kind == blockcrypt.KindKeyFile || n.Kind == blockcrypt.KindFold:
			half = true
		default:
			return ErrRootLost
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", store.Location(), err)
	case half:
		return nil, fmt.Errorf("open %s: %w", store.Location(), ErrHalfMade)
	}
	return nil, fmt.Errorf("open %s: %w", store.Location(), ErrNoVault)
}
