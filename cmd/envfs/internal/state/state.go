// Package state knows where this machine keeps what envfs remembers outside of any vault: pins, logs and the id by
// which a vault's terms tell one state directory from another.
package state

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"envfs/blockcrypt"
)

// maxLog is the size in bytes from which a log is put aside when the next mount begins.
const maxLog = 8 << 20

// Pins returns where in a state directory it lies what was seen of vaults.
func Pins(dir string) string { return filepath.Join(dir, "pins") }

// ID returns the random id of the state directory dir, drawn at the first call. Processes that call it at the same time
// get the same.
func ID(dir string) (blockcrypt.ID, error) {
	name := filepath.Join(dir, "id")
	for range 2 {
		text, err := os.ReadFile(name)
		if err == nil {
			id, err := blockcrypt.ParseID(string(text))
			if err != nil {
				return id, fmt.Errorf("read %s: %w", name, err)
			}
			return id, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return blockcrypt.ID{}, fmt.Errorf("read id of state directory: %w", err)
		}
		if err := makeID(dir, name); err != nil && !errors.Is(err, os.ErrExist) {
			return blockcrypt.ID{}, fmt.Errorf("make id of state directory: %w", err)
		}
	}
	return blockcrypt.ID{}, fmt.Errorf("read %s: it vanished", name)
}

// makeID writes a new id and gives it its name only when it is whole.
func makeID(dir, name string) (err error) {
	id, err := blockcrypt.NewID(rand.Reader)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".id-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(id.String())
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Link(f.Name(), name)
}

// OpenLog opens the log of a vault's mounts for appending, mode 0600. One that has grown large is put aside first.
func OpenLog(dir string, vault blockcrypt.ID) (*os.File, error) {
	logs := filepath.Join(dir, "log")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of logs: %w", err)
	}
	name := filepath.Join(logs, vault.String()+".log")
	if st, err := os.Stat(name); err == nil && st.Size() > maxLog {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, fmt.Errorf("put log aside: %w", err)
		}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
