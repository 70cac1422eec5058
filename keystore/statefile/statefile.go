// Package statefile has slots whose W lies in a file on this machine, so that a vault opens there without being asked:
// it is protected from whoever gets the store alone, and from nobody who reads this machine's disk.
//
// A file holds W and the hash of the slot's context, as package keystore binds them, in hexadecimal and a newline. Its
// name is 16 random bytes in hexadecimal, which are all that the slot keeps. It has mode 0600 and is refused with any
// other access.
package statefile

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"envfs/keystore"
)

const (
	// Kind is the kind of slots whose W this package makes.
	Kind = "statefile"
	// Scheme is the URI, which has no options.
	Scheme = "auto:file"

	keyName       = "file of one machine"
	referenceSize = 16
	fileSize      = 2*keystore.BoundSize + 1
)

// Provider keeps secrets in one directory. It is safe for concurrent use.
type Provider struct{ dir string }

var _ keystore.Forgetter = (*Provider)(nil)

// New returns a provider for the directory dir, which is made, mode 0700, when a slot is.
func New(dir string) *Provider { return &Provider{dir} }

// Parse checks a URI.
func Parse(uri string) error {
	if uri != Scheme {
		return fmt.Errorf("%q: %s has no options", uri, Scheme)
	}
	return nil
}

// Kind implements keystore.Provider.
func (p *Provider) Kind() string { return Kind }

// Wrap implements keystore.Wrapper. The file is durable when it returns.
func (p *Provider) Wrap(ctx context.Context, s keystore.SlotInfo) ([]byte, keystore.ProviderData, error) {
	if err := ctx.Err(); err != nil {
		return nil, keystore.ProviderData{}, err
	}
	reference := make([]byte, referenceSize)
	rand.Read(reference) // it never fails: crypto/rand
	w, bound := s.NewBound()
	defer clear(bound)
	if err := p.write(reference, bound); err != nil {
		clear(w)
		return nil, keystore.ProviderData{}, fmt.Errorf("key in a file: %w", err)
	}
	return w, keystore.ProviderData{Key: keyName, Wrapped: reference}, nil
}

// Forget implements keystore.Forgetter.
func (p *Provider) Forget(_ context.Context, d keystore.ProviderData) error {
	if len(d.Wrapped) != referenceSize {
		return errors.New("key in a file: what the slot keeps is no reference to a file")
	}
	err := os.Remove(p.path(d.Wrapped))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(p.dir)
	}
	if err != nil {
		return fmt.Errorf("key in a file: %w", err)
	}
	return nil
}

func (p *Provider) path(reference []byte) string {
	return filepath.Join(p.dir, hex.EncodeToString(reference))
}

func (p *Provider) write(reference, bound []byte) (err error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	name := p.path(reference)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	text := append(hex.AppendEncode(nil, bound), '\n')
	defer clear(text)
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncDir(p.dir)
	}
	if err != nil {
		os.Remove(name)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Secret implements keystore.Provider.
func (p *Provider) Secret(ctx context.Context, s keystore.SlotInfo) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	bound, err := p.read(s.Provider.Wrapped)
	defer clear(bound)
	if err != nil {
		return nil, fmt.Errorf("key in a file: %w", err)
	}
	w, err := s.Unbind(bound)
	if err != nil {
		return nil, fmt.Errorf("key in a file: %w", err)
	}
	return w, nil
}

// read returns what write wrote. A link is not followed: it would say that somebody else has been here.
func (p *Provider) read(reference []byte) ([]byte, error) {
	if len(reference) != referenceSize {
		return nil, errors.New("what the slot keeps is no reference to a file")
	}
	name := p.path(reference)
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: this machine does not have it: %w", keystore.ErrRefused, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keystore.ErrRefused, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s (%v): others can read it: chmod 600", keystore.ErrRefused, name, st.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, fileSize+1))
	defer clear(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	bound := make([]byte, keystore.BoundSize)
	line, newline := bytes.CutSuffix(text, []byte("\n"))
	if !newline || len(line) != fileSize-1 {
		return nil, fmt.Errorf("%w: %s was changed", keystore.ErrRefused, name)
	}
	if _, err := hex.Decode(bound, line); err != nil {
		clear(bound)
		return nil, fmt.Errorf("%w: %s was changed", keystore.ErrRefused, name) // hex's error quotes a byte of it
	}
	return bound, nil
}

// Rewrap implements keystore.Wrapper: a file has no versions.
func (p *Provider) Rewrap(context.Context, keystore.SlotInfo) ([]byte, error) {
	return nil, fmt.Errorf("key in a file: %w", keystore.ErrNoVersions)
}

// Describe implements keystore.Wrapper.
func (p *Provider) Describe(_ context.Context, s keystore.SlotInfo) (keystore.Description, error) {
	d := keystore.Description{Name: hex.EncodeToString(s.Provider.Wrapped), State: "enabled", Place: p.dir}
	bound, err := p.read(s.Provider.Wrapped)
	clear(bound)
	if err != nil {
		d.State = err.Error()
	}
	return d, nil
}
