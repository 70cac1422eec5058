package providertest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"envfs/keystore"
)

// inVault makes, opens, rewraps and replaces a slot of a real key file.
func inVault(t *testing.T, s Service) {
	p := s.Open(t)
	params := keystore.DefaultParams(keystore.SuiteAESGCM)
	v, err := keystore.Create(rand.Reader, time.Now(), params, []keystore.NewSlot{{Label: "first", Provider: p}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	again := reopen(t, v, s.Open(t))
	if s.Rotate != nil {
		s.Rotate(t)
		next, err := again.RewrapSlot(t.Context(), rand.Reader, time.Now(), again.OpenedBy().ID, p)
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		again = reopen(t, next, s.Open(t))
	}
	rotated, err := again.Rotate(rand.Reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer rotated.Close()
	reopen(t, rotated, s.Open(t))

	// Another vault's slot does not open under the same master key, whoever puts it there.
	theirs, err := keystore.Create(rand.Reader, time.Now(), params, []keystore.NewSlot{{Label: "second", Provider: p}})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	mine, other := v.File().Slots()[0], theirs.File().Slots()[0]
	mine.Provider = other.Provider
	w, err := p.Secret(t.Context(), mine)
	if real, rerr := p.Secret(t.Context(), other); rerr != nil || err == nil && !s.Unbound && bytes.Equal(w, real) {
		t.Errorf("another vault's secret opens in this one's name: %v, %v", err, rerr)
	}
	if s.Disable != nil {
		s.Disable(t)
		defer s.Enable(t)
		if _, err := v.File().Unlock(t.Context(), []keystore.Provider{p}); !errors.Is(err, keystore.ErrWrongKey) || !errors.Is(err, keystore.ErrRefused) {
			t.Errorf("unlock with a disabled key: %v", err)
		}
	}
}

// reopen opens the key file of v as another process would.
func reopen(t *testing.T, v *keystore.Vault, p keystore.Wrapper) *keystore.Vault {
	t.Helper()
	f, err := keystore.Parse(v.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.Unlock(t.Context(), []keystore.Provider{p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	return again
}
