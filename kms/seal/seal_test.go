package seal

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"golang.org/x/crypto/argon2"
)

// cheap computes Argon2id at what a test can pay.
type cheap struct{}

func (cheap) Argon2id(_ context.Context, pass, salt []byte, memKiB, passes uint32, par uint8) (w [32]byte, err error) {
	if memKiB > 1024 || passes > 4 || par > 4 || par == 0 || passes == 0 {
		return w, errors.New("costs too much")
	}
	copy(w[:], argon2.IDKey(pass, salt, passes, memKiB, par, 32))
	return w, nil
}

type sealer interface {
	Seal(ctx context.Context, secret []byte) ([]byte, error)
	Unseal(ctx context.Context, record []byte) ([]byte, error)
}

func TestSeals(t *testing.T) {
	ctx := t.Context()
	secret := bytes.Repeat([]byte{9}, 32)
	key, err := NewKeyFile(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	otherKey, _ := NewKeyFile(bytes.Repeat([]byte{2}, 32))
	cost := Cost{64, 1, 1}
	for name, c := range map[string]struct{ right, wrong sealer }{
		"keyfile":    {key, otherKey},
		"passphrase": {NewPassphrase([]byte("right"), cost, cheap{}), NewPassphrase([]byte("wrong"), cost, cheap{})},
	} {
		record, err := c.right.Seal(ctx, secret)
		if err != nil {
			t.Fatal(name, err)
		}
		if bytes.Contains(record, secret) {
			t.Error(name, "the record shows the secret")
		}
		if got, err := c.right.Unseal(ctx, record); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: unseal = %x, %v", name, got, err)
		}
		if _, err := c.wrong.Unseal(ctx, record); !errors.Is(err, ErrWrong) {
			t.Errorf("%s: the wrong secret: %v", name, err)
		}
		for i := range record {
			altered := bytes.Clone(record)
			altered[i] ^= 4
			if got, err := c.right.Unseal(ctx, altered); err == nil && !bytes.Equal(got, secret) {
				t.Errorf("%s: byte %d altered gives another secret", name, i)
			}
		}
	}
}

func TestKeyFileSize(t *testing.T) {
	if _, err := NewKeyFile(make([]byte, 31)); err == nil {
		t.Error("a key of 31 bytes is taken")
	}
}
