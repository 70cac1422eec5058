// Package store keeps the records of a KMS in one file (bbolt, https://github.com/etcd-io/bbolt). Each record is sealed
// under the store's root secret and bound to its place, so that the file tells nothing but names and sizes, and no
// record can be altered or put in another's place. The root secret lies in the file as a record that a [Sealer] makes.
//
// What [Store.Update] did is on the disk when it returns, and is there after a crash or a power loss; of an update that
// did not return, all is there or nothing.
package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"envfs/keystore/arena"
	"envfs/kms/internal/envelope"
)

var (
	// ErrNone says that there is no store.
	ErrNone = errors.New("no KMS there")
	// ErrInUse says that another process has the store open.
	ErrInUse = errors.New("in use by another process")
	// ErrDamaged says that a record cannot be authenticated.
	ErrDamaged = errors.New("damaged or altered")
	// ErrSeal says that the store is sealed by another kind of secret than was given.
	ErrSeal = errors.New("sealed by another kind of secret")
)

// Sealer makes a record of a secret, and the secret of the record. Kind names how, and what is needed for it; id is the
// store's, random and no secret, to which a record may be bound.
type Sealer interface {
	Kind() string
	Seal(ctx context.Context, id [16]byte, secret []byte) (record []byte, err error)
	Unseal(ctx context.Context, id [16]byte, record []byte) (secret []byte, err error)
}

const (
	format     = "envfs kms 1"
	use        = "envfs kms record 1"
	metaBucket = "meta"
	sealName   = "seal"
	formatName = "format"
	idName     = "id"
	// lockWait is how long opening waits for a process that is just ending.
	lockWait = 200 * time.Millisecond
)

// sealed is how the root secret rests.
type sealed struct {
	Kind   string `json:"kind"`
	Record []byte `json:"record"`
}

// Store is an open store. It is safe for concurrent use; [Store.Close] must wait until nobody uses it.
type Store struct {
	db    *bolt.DB
	id    [16]byte // random, in the AAD of every record
	arena *arena.Arena
	root  *arena.Key
}

// Create makes a store in a new file, with the records that fill puts. It appears under its name when it is complete.
func Create(ctx context.Context, path string, s Sealer, fill func(tx *Tx) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("create %s: %w", path, os.ErrExist)
	}
	root, st := make([]byte, envelope.SecretSize), new(Store)
	defer clear(root)
	rand.Read(root)
	rand.Read(st.id[:])
	record, err := s.Seal(ctx, st.id, root)
	if err != nil {
		return fmt.Errorf("create %s: seal: %w", path, err)
	}
	meta, err := json.Marshal(sealed{s.Kind(), record})
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if st.db, err = openFile(temporary); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	err = st.keep(root)
	if err == nil {
		err = st.db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucket([]byte(metaBucket))
			if err != nil {
				return err
			}
			return errors.Join(b.Put([]byte(formatName), []byte(format)), b.Put([]byte(idName), st.id[:]), b.Put([]byte(sealName), meta), fill(&Tx{st, tx}))
		})
	}
	if err = errors.Join(err, st.Close()); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func openFile(path string) (*bolt.DB, error) {
	return openWith(path, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType})
}

func openWith(path string, o *bolt.Options) (db *bolt.DB, err error) {
	err = guard(func() error {
		db, err = bolt.Open(path, 0o600, o)
		return err
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, ErrInUse
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return db, err
}

// Open opens a store with what seals it, and holds its lock until it is closed. It returns [ErrNone], [ErrInUse],
// [ErrSeal], or what the Sealer returns.
func Open(ctx context.Context, path string, s Sealer) (*Store, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, ErrNone)
	}
	db, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	st := &Store{db: db}
	if err := st.unseal(ctx, s); err != nil {
		st.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return st, nil
}

func (s *Store) unseal(ctx context.Context, sealer Sealer) error {
	var how sealed
	err := view(s.db, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(metaBucket))
		if b == nil || string(b.Get([]byte(formatName))) != format {
			return errors.New("not a KMS of this version")
		}
		id := b.Get([]byte(idName))
		if len(id) != len(s.id) {
			return fmt.Errorf("id of %d bytes: %w", len(id), ErrDamaged)
		}
		copy(s.id[:], id)
		return json.Unmarshal(b.Get([]byte(sealName)), &how)
	})
	if err != nil {
		return err
	}
	if how.Kind != sealer.Kind() {
		return fmt.Errorf("%w: %s", ErrSeal, how.Kind)
	}
	root, err := sealer.Unseal(ctx, s.id, how.Record)
	if err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	defer clear(root)
	if len(root) != envelope.SecretSize {
		return fmt.Errorf("unseal: %w", ErrDamaged)
	}
	return s.keep(root)
}

// keep keeps a copy of the root secret in locked memory.
func (s *Store) keep(root []byte) (err error) {
	if s.arena, err = arena.New(1); err != nil {
		return err
	}
	if s.root, err = s.arena.Alloc(); err != nil {
		return err
	}
	copy(s.root.Bytes(), root)
	return nil
}

// Kind returns the kind of secret that seals the store at path. It needs no secret, and no lock but for a moment.
func Kind(path string) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("open %s: %w", path, ErrNone)
	}
	db, err := openWith(path, &bolt.Options{Timeout: lockWait, ReadOnly: true})
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	defer db.Close()
	var how sealed
	err = view(db, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(metaBucket))
		if b == nil {
			return ErrDamaged
		}
		return json.Unmarshal(b.Get([]byte(sealName)), &how)
	})
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return how.Kind, nil
}

// A Seal is the root secret as a Sealer has sealed it, for [Tx.Reseal].
type Seal struct{ record []byte }

// Seal has the root secret sealed by another secret. It changes nothing.
func (s *Store) Seal(ctx context.Context, sealer Sealer) (Seal, error) {
	record, err := sealer.Seal(ctx, s.id, s.root.Bytes())
	if err != nil {
		return Seal{}, fmt.Errorf("reseal: %w", err)
	}
	meta, err := json.Marshal(sealed{sealer.Kind(), record})
	if err != nil {
		return Seal{}, fmt.Errorf("reseal: %w", err)
	}
	return Seal{meta}, nil
}

// Close wipes the root secret and gives up the lock.
func (s *Store) Close() error {
	if s.arena != nil {
		s.arena.Close()
	}
	return s.db.Close()
}

// Snapshot calls f with the size in bytes of the store as of one moment, and a function that writes it, while it is used.
func (s *Store) Snapshot(f func(size int64, write func(io.Writer) error) error) error {
	return view(s.db, func(tx *bolt.Tx) error {
		return f(tx.Size(), func(w io.Writer) error {
			_, err := tx.WriteTo(w)
			return err
		})
	})
}

// view has f read the file as of one moment.
func view(db *bolt.DB, f func(tx *bolt.Tx) error) error {
	return guard(func() error { return db.View(f) })
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
