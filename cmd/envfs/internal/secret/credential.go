package secret

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Credentials reads the secrets that systemd has put into dir for a service (systemd.exec(5), LoadCredential=):
// PREFIX.passphrase and PREFIX.keyfile, of which either may be missing. The directory is private to the service; the
// modes of the files tell nothing.
func Credentials(dir, prefix string) (b Bundle, err error) {
	if b.KeyFile, err = credential(filepath.Join(dir, prefix+".keyfile"), 1024); err != nil {
		return b, err
	}
	text, err := credential(filepath.Join(dir, prefix+".passphrase"), maxPassphrase+2)
	if err != nil || text == nil {
		return b, err
	}
	if b.Passphrase, err = passphrase(text); err != nil {
		return b, fmt.Errorf("read credential %s.passphrase: %w", prefix, err)
	}
	return b, nil
}

// credential reads a file of at most limit bytes; nil if there is none.
func credential(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read credential: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: longer than %d bytes", name, limit)
	}
	if err != nil {
		clear(data)
		return nil, fmt.Errorf("read credential: %w", err)
	}
	return data, nil
}
