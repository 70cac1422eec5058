package s3

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// SSE is the server's own encryption of the objects, on top of that of the vault.
type SSE struct {
	Mode    string // "": none asked for; "s3": the server's key; "kms": a key of its KMS; "c": a key that the client sends
	KeyID   string // kms: the key's id; "": the server's default
	Context string // kms: encryption context, NAME=VALUE pairs between commas
	KeyFile string // c: file with the key's 32 bytes
}

func (s SSE) check(plain bool) error {
	if s.Mode != "kms" && (s.KeyID != "" || s.Context != "") {
		return errors.New("sse-key and sse-context are for sse=kms")
	}
	if s.Mode != "c" && s.KeyFile != "" {
		return errors.New("sse-key-file is for sse=c")
	}
	switch s.Mode {
	case "", "s3":
		return nil
	case "kms":
		_, err := s.context()
		return err
	case "c":
		if s.KeyFile == "" {
			return errors.New("sse=c needs sse-key-file=FILE with the key's 32 bytes")
		}
		if plain {
			return errors.New("sse=c sends the key to the server and so needs https")
		}
		return nil
	}
	return fmt.Errorf("sse is s3, kms or c, not %q", s.Mode)
}

func (s SSE) context() (map[string]string, error) {
	if s.Context == "" {
		return nil, nil
	}
	m := make(map[string]string)
	for pair := range strings.SplitSeq(s.Context, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if _, twice := m[name]; !ok || name == "" || twice {
			return nil, fmt.Errorf("sse-context %q is not NAME=VALUE,NAME=VALUE", s.Context)
		}
		m[name] = value
	}
	return m, nil
}

// headers returns what requests that write carry, and what requests that read do; nil: nothing.
func (s SSE) headers() (put, get encrypt.ServerSide, err error) {
	switch s.Mode {
	case "s3":
		return encrypt.NewSSE(), nil, nil
	case "kms":
		m, err := s.context()
		if err != nil {
			return nil, nil, err
		}
		var context any
		if m != nil {
			context = m
		}
		put, err = encrypt.NewSSEKMS(s.KeyID, context)
		return put, nil, err
	case "c":
		key, err := os.ReadFile(s.KeyFile)
		if err != nil {
			return nil, nil, fmt.Errorf("read key of the server's encryption: %w", err)
		}
		if len(key) != 32 {
			return nil, nil, fmt.Errorf("read key of the server's encryption: %s has %d bytes, not 32", s.KeyFile, len(key))
		}
		put, err = encrypt.NewSSEC(key)
		return put, put, err
	}
	return nil, nil, nil
}
