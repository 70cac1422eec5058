package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"envfs/kms/ca"
	"envfs/kms/store"
)

// What lies in the directory of a KMS.
const (
	storeName = "kms.db"
	auditName = "audit"
	caName    = "ca.pem"
)

// The tables of the store.
const (
	tableConfig  = "config"
	tableKeys    = "keys"    // by id: keyRecord
	tableBacking = "backing" // by id of key, "/", id of backing key: 32 bytes
	tableAliases = "aliases" // by name with "alias/": alias
	tableUsers   = "users"   // by name: user
	tableNotes   = "notes"   // by id of request: note

	recordConfig      = "config"
	recordCertificate = "ca.pem"
	recordKey         = "ca.key"
)

// AdminUser is the name of the administrator that [Init] makes.
const AdminUser = "admin"

// Access is an access key as it is shown once.
type Access struct {
	ID     string `json:"AccessKeyId"`
	Secret string `json:"SecretAccessKey"`
}

// CAPath returns where the certificate lies that clients of the KMS in dir must trust.
func CAPath(dir string) string { return filepath.Join(dir, caName) }

// AuditDir returns where the audit log of the KMS in dir lies.
func AuditDir(dir string) string { return filepath.Join(dir, auditName) }

// StorePath returns where the store of the KMS in dir lies.
func StorePath(dir string) string { return filepath.Join(dir, storeName) }

// Init makes a KMS in dir, which may exist if it holds nothing of one, and returns the access key of its first
// administrator, [AdminUser]. If it is interrupted it can be called again.
func Init(ctx context.Context, dir string, config Config, sealer store.Sealer, now time.Time) (*Access, error) {
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("make KMS: %w", err)
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make KMS: %w", err)
	}
	authority, err := ca.New("envfs kms "+config.Region+" "+config.Account, now)
	if err != nil {
		return nil, err
	}
	access := newAccessKey(now)
	admin := user{Name: AdminUser, Admin: true, Created: now, Access: []accessKey{access}}
	err = store.Create(ctx, StorePath(dir), sealer, func(tx *store.Tx) error { return first(tx, config, authority, &admin) })
	if err != nil {
		return nil, fmt.Errorf("make KMS: %w", err)
	}
	return &Access{access.ID, string(access.Secret)}, publish(dir, authority)
}

// makeDir makes a directory, unless it is there and nobody else may write to it, and its name durable.
func makeDir(name string) error {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return err
	}
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s: others may write to it (mode %04o)", name, st.Mode().Perm())
	}
	parent, err := os.Open(filepath.Dir(filepath.Clean(name)))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// first puts the records with which a KMS begins.
func first(tx *store.Tx, config Config, authority *ca.Authority, admin *user) error {
	key, err := authority.Key()
	if err != nil {
		return err
	}
	defer clear(key)
	c, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return errors.Join(
		tx.Put(tableConfig, recordConfig, c),
		tx.Put(tableConfig, recordCertificate, authority.Certificate()),
		tx.Put(tableConfig, recordKey, key),
		putJSON(tx, tableUsers, admin.Name, admin),
	)
}

// publish writes the certificate of the authority to dir, for clients, unless it is there.
func publish(dir string, authority *ca.Authority) error {
	if _, err := os.Stat(CAPath(dir)); err == nil {
		return nil
	}
	if err := os.WriteFile(CAPath(dir), authority.Certificate(), 0o644); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}

func putJSON(tx *store.Tx, table, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("put %s %s: %w", table, name, err)
	}
	defer clear(b)
	return tx.Put(table, name, b)
}
