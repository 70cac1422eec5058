package kms

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// backup does nothing but be logged: who makes a backup calls it before [Service.WriteBackup].
func (s *Service) backup(*Call, *none) (*none, error) { return &none{}, nil }

// WriteBackup writes a copy of the KMS as of one moment, as a tar archive: what it is unpacked to is a KMS. Keys in it
// are sealed as in the original, by the passphrase or key of now.
func (s *Service) WriteBackup(w io.Writer) error {
	now := s.now()
	t := tar.NewWriter(w)
	// The store first: the log that follows it then tells of every change that is in the store.
	err := s.store.Snapshot(func(size int64, write func(io.Writer) error) error {
		if err := t.WriteHeader(&tar.Header{Name: storeName, Mode: 0o600, Size: size, ModTime: now}); err != nil {
			return err
		}
		return write(t)
	})
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(AuditDir(s.dir), "*.log"))
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: auditName + "/", Mode: 0o700, ModTime: now}); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	for _, name := range append(names, CAPath(s.dir)) {
		if err := addFile(t, s.dir, name, now); err != nil {
			return fmt.Errorf("back up: %w", err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

// addFile adds a file as long as it is now, whatever is appended to it meanwhile.
func addFile(t *tar.Writer, dir, name string, now time.Time) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	inside, err := filepath.Rel(dir, name)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: inside, Mode: int64(st.Mode().Perm()), Size: st.Size(), ModTime: now}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(t, f, st.Size())
	return err
}
