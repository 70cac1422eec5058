package pin

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"envfs/blockcrypt"
	"envfs/keystore"
)

const (
	formatVersion = 0
	maxLocations  = 1024
	maxLocation   = 4 << 10                              // bytes
	maxSize       = maxLocations * (512 + 6*maxLocation) // bytes of a file, each byte of a location escaped
)

// document is the JSON of a vault's pins.
type document struct {
	Version   uint32                 `json:"version"`
	Vault     string                 `json:"vault"`
	Locations map[string]pinDocument `json:"locations"`
}

type pinDocument struct {
	RootKey      hexText `json:"root_key"`
	Generation   uint64  `json:"generation"`
	RootSeq      uint64  `json:"root_seq"`
	RootSHA256   hexText `json:"root_sha256"`
	DurableBatch uint64  `json:"durable_batch"`
	DurableHash  hexText `json:"durable_hash"`
}

// hexText is 32 bytes spelled in hexadecimal.
type hexText [32]byte

func (t hexText) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, t[:]), nil }

func (t *hexText) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(t)) {
		return errors.New("not 64 hexadecimal digits")
	}
	_, err := hex.Decode(t[:], b)
	return err
}

// Load reads the pins of a vault from the directory dir, which need not exist yet. It returns [ErrDamaged] for a file
// that is none of pins.
func Load(dir string, vault blockcrypt.ID) (Pins, error) {
	p := Pins{dir: dir, vault: vault}
	if err := p.read(); err != nil {
		return Pins{}, fmt.Errorf("load pins of vault %s: %w", vault, err)
	}
	return p, nil
}

func (p *Pins) path() string { return filepath.Join(p.dir, p.vault.String()+".json") }

// read replaces p.at by what the file says.
func (p *Pins) read() error {
	f, err := os.Open(p.path())
	if errors.Is(err, fs.ErrNotExist) {
		p.at = make(map[string]Pin)
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return err
	}
	at, err := decode(data, p.vault)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", p.path(), ErrDamaged, err)
	}
	p.at = at
	return nil
}

func decode(data []byte, vault blockcrypt.ID) (map[string]Pin, error) {
	if len(data) > maxSize {
		return nil, errors.New("too long")
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	again, err := d.encode()
	switch {
	case err != nil:
		return nil, err
	case !bytes.Equal(again, data):
		return nil, errors.New("unknown, repeated or unusual fields")
	case d.Version != formatVersion:
		return nil, fmt.Errorf("version %d", d.Version)
	case d.Vault != vault.String():
		return nil, fmt.Errorf("pins of vault %q", d.Vault)
	case len(d.Locations) > maxLocations:
		return nil, fmt.Errorf("%d locations", len(d.Locations))
	}
	at := make(map[string]Pin, len(d.Locations))
	for l, q := range d.Locations {
		at[l] = Pin{
			RootKey: keystore.Fingerprint(q.RootKey), Generation: q.Generation, RootSeq: q.RootSeq, RootHash: blockcrypt.Hash(q.RootSHA256),
			Durable: Position{Batch: q.DurableBatch, Hash: blockcrypt.Hash(q.DurableHash)},
		}
	}
	return at, nil
}

func (d *document) encode() ([]byte, error) {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// Set remembers pin for a location. It reads the file again under a lock, so that mounts of other locations of the vault
// may do the same at the same time, and replaces it atomically and durably. It makes the directory if need be.
func (p *Pins) Set(location string, pin Pin) error {
	if err := p.set(location, pin); err != nil {
		return fmt.Errorf("pin vault %s: %w", p.vault, err)
	}
	return nil
}

func (p *Pins) set(location string, pin Pin) error {
	if len(location) > maxLocation || !utf8.ValidString(location) {
		return fmt.Errorf("location %q is too long or not UTF-8", location)
	}
	return p.update(func() error {
		if _, ok := p.at[location]; !ok && len(p.at) >= maxLocations {
			return fmt.Errorf("more than %d locations", maxLocations)
		}
		p.at[location] = pin
		return nil
	})
}

// update reads the file under its lock, and writes what edit makes of p.at.
func (p *Pins) update(edit func() error) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := p.read(); err != nil {
		return err
	}
	if err := edit(); err != nil {
		return err
	}
	d := document{Version: formatVersion, Vault: p.vault.String(), Locations: make(map[string]pinDocument, len(p.at))}
	for l, q := range p.at {
		d.Locations[l] = pinDocument{
			RootKey: hexText(q.RootKey), Generation: q.Generation, RootSeq: q.RootSeq, RootSHA256: hexText(q.RootHash),
			DurableBatch: q.Durable.Batch, DurableHash: hexText(q.Durable.Hash),
		}
	}
	data, err := d.encode()
	if err != nil {
		return err
	}
	return p.replace(data)
}

// lock waits for the vault's lock file, which stays.
func (p *Pins) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(p.dir, p.vault.String()+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// replace writes a temporary file of mode 0600, syncs it, renames it and syncs the directory.
func (p *Pins) replace(data []byte) (err error) {
	f, err := os.CreateTemp(p.dir, ".pins-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), p.path())
	}
	if err != nil {
		return err
	}
	d, err := os.Open(p.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
