package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/remote"
)

// InitOptions says who makes a vault.
type InitOptions struct {
	Clock      Clock
	Rand       io.Reader
	Host, User string
	StateDir   string
	StateID    blockcrypt.ID
	Owner      Cred // of the top directory, whose mode is 0700
}

// Init makes a vault under the keys on an empty store, or goes on with one whose making was interrupted. Root comes
// last: what has none is no vault yet.
func Init(ctx context.Context, store remote.Local, keys *keystore.Vault, o InitOptions) error {
	if err := store.Lock(); err != nil {
		if errors.Is(err, remote.ErrInUse) {
			return fmt.Errorf("%w: %w", ErrInUse, err)
		}
		return err
	}
	if err := cleanHalfMade(ctx, store); err != nil {
		return err
	}
	f := newFS(Options{Store: store, Rand: o.Rand, Clock: o.Clock})
	f.local = store
	f.keys.Store(keys)
	f.vault = vaultOf(keys.File())
	tag := blockcrypt.Tag{}
	if _, err := io.ReadFull(o.Rand, tag[:]); err != nil {
		return fmt.Errorf("draw a tag: %w", err)
	}
	f.term = blockcrypt.Term{Number: 1, Tag: tag, Host: o.Host, User: o.User, StateID: o.StateID, Began: f.now(), Closed: true}
	root := &blockcrypt.Root{Terms: []blockcrypt.Term{f.term}}
	root.Time = f.now()
	root.Epoch = keys.Newest()
	root.Epochs = []blockcrypt.EpochStart{{Epoch: root.Epoch, Began: root.Time}}
	for i, name := range superNames {
		if err := f.initDir(root, i, name, o.Owner); err != nil {
			return err
		}
	}
	var err error
	if root.KeyFile, err = f.putKeyFile(ctx, keys); err != nil {
		return err
	}
	if root.R, err = blockcrypt.NewR(f.rand, tag); err != nil {
		return fmt.Errorf("draw a root's version: %w", err)
	}
	root.Seq = 1
	root.Terms[0].LastRootSeq, root.Terms[0].LastRootR = root.Seq, root.R
	if root.Fold, err = f.putFoldRecord(ctx, &blockcrypt.FoldRecord{Time: root.Time, Epoch: root.Epoch, Term: 1}); err != nil {
		return err
	}
	if err := store.Sync(ctx); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := f.firstRoot(ctx, root); err != nil {
		return err
	}
	return forgetOthers(o.StateDir, store.Location(), f.vault.ID)
}

func (f *FS) initDir(root *blockcrypt.Root, i int, name string, owner Cred) error {
	e := blockcrypt.Entry{Name: name, Type: blockcrypt.TypeDirectory, Attr: blockcrypt.Attr{
		Mode: 0o700, UID: owner.UID, GID: owner.GID, Nlink: 1, Atime: root.Time, Mtime: root.Time, Ctime: root.Time, Btime: root.Time}}
	var err error
	if e.ID, err = blockcrypt.NewID(f.rand); err != nil {
		return fmt.Errorf("draw a directory id: %w", err)
	}
	if _, err := io.ReadFull(f.rand, e.Salt[:]); err != nil {
		return fmt.Errorf("draw a salt: %w", err)
	}
	root.Dirs[i] = e
	return nil
}

func (f *FS) firstRoot(ctx context.Context, root *blockcrypt.Root) error {
	kek, err := f.keyring().KEK(root.Epoch)
	if err != nil {
		return fmt.Errorf("seal root: %w", err)
	}
	err = f.store.Replace(ctx, blockcrypt.RootName, nil, func(identity []byte) ([]byte, error) {
		root.Identity = identity
		f.rootData, err = f.vault.SealRoot(f.rand, kek, root)
		return f.rootData, err
	})
	if err != nil {
		return fmt.Errorf("write root: %w", err)
	}
	if _, err := f.keepRoot(ctx, f.rootData); err != nil {
		return err
	}
	return f.putKeyCopy(ctx, f.keyring())
}

// cleanHalfMade refuses a store that holds a vault or anything else, and removes what an interrupted Init has left.
func cleanHalfMade(ctx context.Context, store remote.Store) error {
	var mine []string
	err := store.List(ctx, "", func(i remote.Info) error {
		n, err := blockcrypt.ParseName(i.Name)
		switch {
		case err != nil:
			if strings.HasPrefix(i.Name, ".") {
				return nil // the store's own temporary files
			}
			return fmt.Errorf("%s is there already: a vault is made in an empty or new directory", i.Name)
		case n.Kind == blockcrypt.KindKeyFile || n.Kind == blockcrypt.KindFold:
			mine = append(mine, i.Name)
			return nil
		case n.Kind == blockcrypt.KindRoot:
			return ErrExist
		}
		return fmt.Errorf("%s is there: %w", i.Name, ErrRootLost)
	})
	if err != nil {
		return fmt.Errorf("look for a vault: %w", err)
	}
	if err := store.Delete(ctx, mine...); err != nil {
		return fmt.Errorf("remove what an interrupted init has left: %w", err)
	}
	return nil
}

func vaultOf(kf *keystore.File) blockcrypt.Vault {
	return blockcrypt.Vault{Suite: blockcrypt.Suite(kf.Params().Suite), ID: kf.VaultID()}
}

// putKeyFile stores a key file under a name of its own.
func (f *FS) putKeyFile(ctx context.Context, keys *keystore.Vault) (blockcrypt.ObjRef, error) {
	r, err := blockcrypt.NewR(f.rand, f.term.Tag)
	if err != nil {
		return blockcrypt.ObjRef{}, fmt.Errorf("draw a key file's version: %w", err)
	}
	ref := blockcrypt.ObjRef{Name: keys.Name(r).String(), Hash: blockcrypt.Sum(keys.Bytes())}
	if err := f.store.Put(ctx, ref.Name, keys.Bytes()); err != nil {
		return ref, fmt.Errorf("store the key file: %w", err)
	}
	return ref, nil
}

// maxKeyFile is the largest key file that is read, in bytes.
const maxKeyFile = keystore.MaxSize

// mendKeyCopy makes the copy of the key file anew if it is not what it should be.
func (f *FS) mendKeyCopy(ctx context.Context) {
	old, err := f.store.Get(ctx, blockcrypt.KeyCopyName, maxKeyFile)
	if err == nil && bytes.Equal(old, f.keyring().Bytes()) {
		return
	}
	if err := f.putKeyCopy(ctx, f.keyring()); err != nil {
		f.logger.Warn("the copy of the key file is not what it should be", "cause", err)
	}
}

// putKeyCopy makes envfs.json the copy of the key file.
func (f *FS) putKeyCopy(ctx context.Context, keys *keystore.Vault) error {
	old, err := f.store.Get(ctx, blockcrypt.KeyCopyName, maxKeyFile)
	if errors.Is(err, remote.ErrNotExist) {
		old, err = nil, nil
	}
	if err == nil {
		err = f.store.Replace(ctx, blockcrypt.KeyCopyName, old, func([]byte) ([]byte, error) { return keys.Bytes(), nil })
	}
	if err != nil {
		return fmt.Errorf("copy the key file to %s: %w", blockcrypt.KeyCopyName, err)
	}
	return nil
}
