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

// Dir returns the state directory, made if it is missing: $XDG_STATE_HOME/envfs, else ~/.local/state/envfs; without a
// home directory root has /var/lib/envfs.
func Dir() (string, error) {
	dir, err := path()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	return dir, nil
}

// CacheDir returns the directory for what can be fetched again: $XDG_CACHE_HOME/envfs, else ~/.cache/envfs; without a home
// directory root has /var/cache/envfs.
func CacheDir() (string, error) {
	if d := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "envfs"), nil
	}
	if d := os.Getenv("HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, ".cache", "envfs"), nil
	}
	if os.Getuid() == 0 {
		return "/var/cache/envfs", nil
	}
	return "", errors.New("find cache directory: neither XDG_CACHE_HOME nor HOME is set")
}

// Pins returns where in a state directory it lies what was seen of vaults.
func Pins(dir string) string { return filepath.Join(dir, "pins") }

func path() (string, error) {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "envfs"), nil
	}
	if d := os.Getenv("HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, ".local", "state", "envfs"), nil
	}
	if os.Getuid() == 0 {
		return "/var/lib/envfs", nil
	}
	return "", errors.New("find state directory: neither XDG_STATE_HOME nor HOME is set")
}

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
