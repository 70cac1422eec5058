// Package providertest is the suite that every wrapper of package keystore passes against the real service.
package providertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"envfs/blockcrypt"
	"envfs/keystore"
)

// Service is what a test has running: a real service or device with one master key. Functions that are nil stand for what
// the kind cannot do; the suite then leaves that part out.
type Service struct {
	// Open returns a wrapper for the master key, as a new process would.
	Open func(t *testing.T) keystore.Wrapper
	// Other returns a wrapper of the same kind for another master key.
	Other func(t *testing.T) keystore.Wrapper

	// Disable has the master key refuse to open, and Enable ends that.
	Disable, Enable func(t *testing.T)
	// Forbidden returns a wrapper for the master key whose caller has no right to it: a user without permission, a wrong PIN.
	Forbidden func(t *testing.T) keystore.Wrapper
	// Rotate gives the master key a new version.
	Rotate func(t *testing.T)
	// Away returns a wrapper for the master key whose service cannot be reached.
	Away func(t *testing.T) keystore.Wrapper
	// Slow returns a wrapper whose service does not answer.
	Slow func(t *testing.T) keystore.Wrapper
	// Replies returns a wrapper whose service answers with these bytes in place of its own.
	Replies func(t *testing.T, body []byte) keystore.Wrapper

	// Unbound is true where the context is not bound to what is wrapped, which only the slot's commitment finds.
	Unbound bool
}

// slot returns the public part of a slot of a vault.
func slot(t *testing.T, p keystore.Provider) keystore.SlotInfo {
	t.Helper()
	return keystore.SlotInfo{Vault: newID(t), ID: newID(t), Kind: p.Kind(), Label: "suite"}
}

func newID(t *testing.T) blockcrypt.ID {
	t.Helper()
	id, err := blockcrypt.NewID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// wrapped returns a slot for which p has made W, and W.
func wrapped(t *testing.T, p keystore.Wrapper) (keystore.SlotInfo, []byte) {
	t.Helper()
	s := slot(t, p)
	w, data, err := p.Wrap(t.Context(), s)
	if err != nil {
		t.Fatalf("wrap: %v", err)
	}
	if len(w) != 32 || data.Key == "" || len(data.Key) > keystore.MaxProviderKey || len(data.Wrapped) == 0 || len(data.Wrapped) > keystore.MaxWrapped {
		t.Fatalf("wrap: a secret of %d bytes, key %q, %d bytes to keep", len(w), data.Key, len(data.Wrapped))
	}
	if bytes.Contains(data.Wrapped, w) {
		t.Fatal("what the slot keeps holds the secret")
	}
	s.Provider = data
	return s, bytes.Clone(w)
}

// opens checks that p makes w for the slot s.
func opens(t *testing.T, p keystore.Wrapper, s keystore.SlotInfo, w []byte) {
	t.Helper()
	got, err := p.Secret(t.Context(), s)
	if err != nil || !bytes.Equal(got, w) {
		t.Errorf("secret: the same is %v, %v", bytes.Equal(got, w), err)
	}
}

// closed checks that p does not make w for the slot s; if want is not nil, with an error that wraps it.
func closed(t *testing.T, p keystore.Wrapper, s keystore.SlotInfo, w []byte, want error) {
	t.Helper()
	got, err := p.Secret(t.Context(), s)
	switch {
	case bytes.Equal(got, w):
		t.Error("secret: it opens")
	case want != nil && !errors.Is(err, want):
		t.Errorf("secret: %v, not %v", err, want)
	}
}

// Run runs the suite.
func Run(t *testing.T, s Service) {
	t.Run("RoundTrip", func(t *testing.T) {
		p := s.Open(t)
		info, w := wrapped(t, p)
		opens(t, p, info, w)
		opens(t, s.Open(t), info, w)
		if second, other := wrapped(t, p); bytes.Equal(w, other) || bytes.Equal(info.Provider.Wrapped, second.Provider.Wrapped) {
			t.Error("two slots share a secret")
		}
	})
	t.Run("OtherVault", func(t *testing.T) {
		if s.Unbound {
			return
		}
		p := s.Open(t)
		info, w := wrapped(t, p)
		info.Vault = newID(t)
		closed(t, p, info, w, nil)
	})
	t.Run("OtherDomain", func(t *testing.T) {
		if s.Unbound {
			return
		}
		p := s.Open(t)
		info, w := wrapped(t, p)
		info.Domain = newID(t)
		closed(t, p, info, w, nil)
	})
	t.Run("OtherKey", func(t *testing.T) {
		info, w := wrapped(t, s.Open(t))
		other := s.Other(t)
		theirs, _ := wrapped(t, other)
		closed(t, other, keystore.SlotInfo{Vault: info.Vault, ID: info.ID, Kind: info.Kind,
			Provider: keystore.ProviderData{Key: theirs.Provider.Key, Wrapped: info.Provider.Wrapped}}, w, nil)
	})
	t.Run("Altered", func(t *testing.T) { altered(t, s) })
	t.Run("Rewrap", func(t *testing.T) { rewrap(t, s) })
	t.Run("Disabled", func(t *testing.T) {
		if s.Disable == nil {
			return
		}
		p := s.Open(t)
		info, w := wrapped(t, p)
		s.Disable(t)
		closed(t, p, info, w, keystore.ErrRefused)
		if d, err := p.Describe(t.Context(), info); err == nil && d.State == "enabled" {
			t.Error("a key that is disabled is described as enabled")
		}
		s.Enable(t)
		opens(t, p, info, w)
	})
	t.Run("Forbidden", func(t *testing.T) {
		if s.Forbidden == nil {
			return
		}
		info, w := wrapped(t, s.Open(t))
		closed(t, s.Forbidden(t), info, w, keystore.ErrRefused)
		opens(t, s.Open(t), info, w) // nothing is locked out
	})
	t.Run("Away", func(t *testing.T) {
		if s.Away == nil {
			return
		}
		info, w := wrapped(t, s.Open(t))
		p := s.Away(t)
		closed(t, p, info, w, keystore.ErrAway)
		if _, _, err := p.Wrap(t.Context(), slot(t, p)); !errors.Is(err, keystore.ErrAway) {
			t.Errorf("wrap: %v", err)
		}
	})
	t.Run("Cancelled", func(t *testing.T) { cancelled(t, s) })
	t.Run("Garbage", func(t *testing.T) { garbage(t, s) })
	t.Run("Describe", func(t *testing.T) {
		p := s.Open(t)
		info, _ := wrapped(t, p)
		d, err := p.Describe(t.Context(), info)
		if err != nil || d.State != "enabled" || d.Name == "" {
			t.Errorf("describe: %+v, %v", d, err)
		}
	})
	t.Run("Parallel", func(t *testing.T) {
		p := s.Open(t)
		info, w := wrapped(t, p)
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() { opens(t, p, info, w) })
		}
		all.Wait()
	})
	t.Run("Vault", func(t *testing.T) { inVault(t, s) })
}

// altered flips and cuts what the slot keeps: none of it opens, and none of it panics.
func altered(t *testing.T, s Service) {
	p := s.Open(t)
	info, w := wrapped(t, p)
	whole := info.Provider.Wrapped
	for at := 0; at < len(whole); at += 1 + len(whole)/24 {
		changed := bytes.Clone(whole)
		changed[at] ^= 0x40
		info.Provider.Wrapped = changed
		closed(t, p, info, w, nil)
	}
	for _, n := range []int{1, len(whole) / 2, len(whole) - 1} {
		info.Provider.Wrapped = whole[:n]
		closed(t, p, info, w, nil)
	}
	info.Provider.Wrapped = append(bytes.Clone(whole), 0)
	closed(t, p, info, w, nil)
	info.Provider.Wrapped = whole
	opens(t, p, info, w)
}

// rewrap has W wrapped by a newer version of the master key. Both open.
func rewrap(t *testing.T, s Service) {
	p := s.Open(t)
	info, w := wrapped(t, p)
	if s.Rotate == nil {
		if _, err := p.Rewrap(t.Context(), info); !errors.Is(err, keystore.ErrNoVersions) {
			t.Errorf("rewrap: %v", err)
		}
		return
	}
	s.Rotate(t)
	opens(t, p, info, w)
	again, err := p.Rewrap(t.Context(), info)
	if err != nil || bytes.Equal(again, info.Provider.Wrapped) {
		t.Fatalf("rewrap: %d bytes, the same as before is %v, %v", len(again), bytes.Equal(again, info.Provider.Wrapped), err)
	}
	opens(t, p, info, w)
	info.Provider.Wrapped = again
	opens(t, p, info, w)
	info.Vault = newID(t)
	if !s.Unbound {
		closed(t, p, info, w, nil)
	}
}

// cancelled gives up on a service that does not answer, and before it is asked.
func cancelled(t *testing.T, s Service) {
	info, _ := wrapped(t, s.Open(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Open(t).Secret(ctx, info); err == nil {
		t.Error("secret: it opens after it was cancelled")
	}
	if s.Slow == nil {
		return
	}
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := s.Slow(t).Secret(ctx, info); err == nil {
		t.Error("secret: a service that does not answer opens")
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("secret: gave up after %v, of 300 ms", took)
	}
}

// garbage has the service answer with what it never would.
func garbage(t *testing.T, s Service) {
	if s.Replies == nil {
		return
	}
	info, w := wrapped(t, s.Open(t))
	huge := bytes.Repeat([]byte(`{"Plaintext":"`), 4<<20)
	for _, body := range [][]byte{nil, []byte("{}"), []byte("not JSON"), []byte(`{"Plaintext":"AAAA","data":{"plaintext":"AAAA"}}`), huge} {
		p := s.Replies(t, body)
		closed(t, p, info, w, nil)
		if _, _, err := p.Wrap(t.Context(), slot(t, p)); err == nil {
			t.Errorf("wrap: a reply of %d bytes of garbage is believed", len(body))
		}
	}
}
