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
	Seal(ctx context.Context, id [16]byte, secret []byte) ([]byte, error)
	Unseal(ctx context.Context, id [16]byte, record []byte) ([]byte, error)
}

func TestSeals(t *testing.T) {
	ctx := t.Context()
	secret, id := bytes.Repeat([]byte{9}, 32), [16]byte{5}
	key, err := NewKeyFile(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	otherKey, _ := NewKeyFile(bytes.Repeat([]byte{2}, 32))
	cost := Cost{64, 1, 1}
	for name, c := range map[string]struct{ right, wrong sealer }{
		"keyfile":    {key, otherKey},
		"masterkey":  {NewMasterKey(holder{1}), NewMasterKey(holder{2})},
		"passphrase": {NewPassphrase([]byte("right"), cost, cheap{}), NewPassphrase([]byte("wrong"), cost, cheap{})},
	} {
		record, err := c.right.Seal(ctx, id, secret)
		if err != nil {
			t.Fatal(name, err)
		}
		if bytes.Contains(record, secret) {
			t.Error(name, "the record shows the secret")
		}
		if got, err := c.right.Unseal(ctx, id, record); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: unseal = %x, %v", name, got, err)
		}
		if _, err := c.wrong.Unseal(ctx, id, record); !errors.Is(err, ErrWrong) {
			t.Errorf("%s: the wrong secret: %v", name, err)
		}
		for i := range record {
			altered := bytes.Clone(record)
			altered[i] ^= 4
			if got, err := c.right.Unseal(ctx, id, altered); err == nil && !bytes.Equal(got, secret) {
				t.Errorf("%s: byte %d altered gives another secret", name, i)
			}
		}
	}
}

// holder holds a master key of its own, a poor one, and binds what it wraps to an id.
type holder struct{ key byte }

func (h holder) Kind() string { return "holder" }

func (h holder) Wrap(_ context.Context, id [16]byte) (w []byte, key string, wrapped []byte, err error) {
	w = bytes.Repeat([]byte{h.key}, 32)
	return w, "the key", append(id[:], w...), nil
}

func (h holder) Unwrap(_ context.Context, id [16]byte, key string, wrapped []byte) ([]byte, error) {
	w := bytes.Repeat([]byte{h.key}, 32)
	if key != "the key" || !bytes.HasPrefix(wrapped, id[:]) {
		return nil, errRefused
	}
	return w, nil
}

var errRefused = errors.New("refused")

// A record of one KMS opens no other.
func TestMasterKeyOfOtherKMS(t *testing.T) {
	m := NewMasterKey(holder{1})
	record, err := m.Seal(t.Context(), [16]byte{1}, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Unseal(t.Context(), [16]byte{2}, record); !errors.Is(err, errRefused) {
		t.Errorf("%v", err)
	}
	careless := NewMasterKey(forgetful{holder{1}})
	if record, err = careless.Seal(t.Context(), [16]byte{1}, make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	if _, err := careless.Unseal(t.Context(), [16]byte{2}, record); !errors.Is(err, ErrWrong) {
		t.Errorf("whose master key is not bound: %v", err)
	}
	for _, bad := range []string{"", "{}", "null", "[]", `{"key":"the key"}`} {
		if _, err := m.Unseal(t.Context(), [16]byte{1}, []byte(bad)); err == nil {
			t.Errorf("%q opens", bad)
		}
	}
}

// forgetful binds nothing to an id.
type forgetful struct{ holder }

func (f forgetful) Unwrap(context.Context, [16]byte, string, []byte) ([]byte, error) {
	return bytes.Repeat([]byte{f.key}, 32), nil
}

func TestKeyFileSize(t *testing.T) {
	if _, err := NewKeyFile(make([]byte, 31)); err == nil {
		t.Error("a key of 31 bytes is taken")
	}
}
