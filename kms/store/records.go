package store

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"envfs/kms/internal/envelope"
)

// Tx is an update under way.
type Tx struct {
	store *Store
	tx    *bolt.Tx
}

// Update has f change records. All its changes are made, durably, if it returns nil; else none. Updates wait for each
// other.
func (s *Store) Update(f func(tx *Tx) error) error {
	return guard(func() error { return s.db.Update(func(tx *bolt.Tx) error { return f(&Tx{s, tx}) }) })
}

// Put makes or replaces the record of a name, which must not be empty, in a table.
func (t *Tx) Put(table, name string, value []byte) error {
	b, err := t.tx.CreateBucketIfNotExists([]byte(table))
	if err != nil {
		return fmt.Errorf("put %s %s: %w", table, name, err)
	}
	v, err := envelope.Seal(nil, t.store.root.Bytes(), use, value, t.store.aad(table, name))
	if err != nil {
		return fmt.Errorf("put %s %s: %w", table, name, err)
	}
	if err := b.Put([]byte(name), v); err != nil {
		return fmt.Errorf("put %s %s: %w", table, name, err)
	}
	return nil
}

// Reseal has the root secret rest under what another secret has sealed from now on. Records are not touched.
func (t *Tx) Reseal(to Seal) error {
	if err := t.tx.Bucket([]byte(metaBucket)).Put([]byte(sealName), to.record); err != nil {
		return fmt.Errorf("reseal: %w", err)
	}
	return nil
}

// Delete removes a record, if there is one.
func (t *Tx) Delete(table, name string) error {
	b := t.tx.Bucket([]byte(table))
	if b == nil {
		return nil
	}
	if err := b.Delete([]byte(name)); err != nil {
		return fmt.Errorf("delete %s %s: %w", table, name, err)
	}
	return nil
}

// Each calls f with every record of a table, in the order of names, as of one moment. The value is wiped when f returns. An
// error is that of f, or [ErrDamaged].
func (s *Store) Each(table string, f func(name string, value []byte) error) error {
	return view(s.db, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(table))
		if b == nil || table == metaBucket {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			value, err := envelope.Open(s.root.Bytes(), use, v, s.aad(table, string(k)))
			if err != nil {
				return fmt.Errorf("read %s %q: %w", table, k, ErrDamaged)
			}
			defer clear(value)
			return f(string(k), value)
		})
	})
}

// aad binds a record to its place: the store's id, the table, the name.
func (s *Store) aad(table, name string) []byte {
	aad := append([]byte(nil), s.id[:]...)
	aad = append(binary.BigEndian.AppendUint32(aad, uint32(len(table))), table...)
	return append(aad, name...)
}
