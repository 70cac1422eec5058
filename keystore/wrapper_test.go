package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"envfs/blockcrypt"
)

// box is a wrapper with its master key in memory. It binds W to its context.
type box struct {
	kind string
	key  [32]byte
	err  error                           // instead of an answer
	wait func(ctx context.Context) error // before each answer
}

func newBox(kind string) *box {
	b := &box{kind: kind}
	_, _ = rand.Read(b.key[:])
	return b
}

func (b *box) Kind() string { return b.kind }

func (b *box) answer(ctx context.Context) error {
	if b.wait != nil {
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
	return b.err
}

func (b *box) Wrap(ctx context.Context, s SlotInfo) ([]byte, ProviderData, error) {
	if err := b.answer(ctx); err != nil {
		return nil, ProviderData{}, err
	}
	w := make([]byte, 32)
	_, _ = rand.Read(w)
	sealed, err := seal(rand.Reader, b.key[:], w, []byte(s.ContextText()))
	return w, ProviderData{Key: "a box", Wrapped: sealed}, err
}

func (b *box) Secret(ctx context.Context, s SlotInfo) ([]byte, error) {
	if err := b.answer(ctx); err != nil {
		return nil, err
	}
	w, err := open(b.key[:], s.Provider.Wrapped, []byte(s.ContextText()))
	if err != nil {
		return nil, fmt.Errorf("box: %w", ErrRefused)
	}
	return w, nil
}

func (b *box) Rewrap(ctx context.Context, s SlotInfo) ([]byte, error) {
	w, err := b.Secret(ctx, s)
	if err != nil {
		return nil, err
	}
	return seal(rand.Reader, b.key[:], w, []byte(s.ContextText()))
}

func (b *box) Describe(context.Context, SlotInfo) (Description, error) {
	return Description{Name: "a box", State: "enabled"}, nil
}

// parsed returns the key file of v as another process reads it.
func parsedFile(t *testing.T, v *Vault) *File {
	t.Helper()
	f, err := Parse(v.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWrapperSlot(t *testing.T) {
	b := newBox("box")
	v := create1(t, NewSlot{Label: "office", Provider: b}, keyFile(t, 1))
	s := parsedFile(t, v).Slots()[0]
	if s.Kind != "box" || s.Provider.Key != "a box" || len(s.Provider.Wrapped) == 0 {
		t.Fatalf("slot %+v", s)
	}
	same(t, opens(t, v, NewSlot{Provider: b}), v)
	next := held(t)(v.RewrapSlot(t.Context(), rand.Reader, testTime, s.ID, b))
	again := parsedFile(t, next).Slots()[0]
	if bytes.Equal(again.Provider.Wrapped, s.Provider.Wrapped) || next.File().Generation() != 2 {
		t.Error("nothing was wrapped anew")
	}
	same(t, opens(t, next, NewSlot{Provider: b}), v)
	replaced := held(t)(next.ReplaceSlot(t.Context(), rand.Reader, testTime, s.ID, keyFile(t, 2)))
	if s := parsedFile(t, replaced).Slots()[0]; s.Provider.Key != "" {
		t.Errorf("a slot keeps what its former provider made: %+v", s)
	}
	if _, err := unlock(replaced.Bytes(), NewSlot{Provider: b}); !errors.Is(err, ErrNoSlot) {
		t.Errorf("the former provider: %v", err)
	}
}

// What a provider wraps anew must open the slot, or nothing changes.
func TestRewrapRefused(t *testing.T) {
	b := newBox("box")
	v := create1(t, NewSlot{Provider: b}, keyFile(t, 1))
	id := v.File().Slots()[0].ID
	other := Made("box", ProviderData{Key: "a box", Wrapped: []byte("x")}, bytes.Repeat([]byte{1}, 32))
	for what, p := range map[string]Wrapper{"another secret": other, "another kind": newBox("tin")} {
		if _, err := v.RewrapSlot(t.Context(), rand.Reader, testTime, id, p); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if _, err := v.RewrapSlot(t.Context(), rand.Reader, testTime, v.File().Slots()[1].ID, b); err == nil {
		t.Error("a key file's slot was wrapped anew")
	}
	if _, err := v.RewrapSlot(t.Context(), rand.Reader, testTime, blockcrypt.ID{9}, b); !errors.Is(err, ErrUnknownSlot) {
		t.Errorf("no slot: %v", err)
	}
}

// Which error a vault that does not open has tells whether a later try may help.
func TestProvidersErrors(t *testing.T) {
	b := newBox("box")
	v := create1(t, NewSlot{Provider: b})
	for _, c := range []struct {
		err, want, not error
	}{
		{fmt.Errorf("box: %w: it is locked", ErrRefused), ErrWrongKey, ErrNoSlot},
		{fmt.Errorf("box: %w: no answer", ErrAway), ErrNoSlot, ErrWrongKey},
		{errors.New("no idea"), ErrNoSlot, ErrWrongKey},
	} {
		b.err = c.err
		_, err := unlock(v.Bytes(), NewSlot{Provider: b})
		if !errors.Is(err, c.want) || errors.Is(err, c.not) || !errors.Is(err, c.err) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	b.err = nil
	if _, err := unlock(v.Bytes(), NewSlot{Provider: newBox("box")}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another box: %v", err)
	}
	wrong := Made("box", ProviderData{}, bytes.Repeat([]byte{1}, 32)) // a service that answers with another key's plaintext
	if _, err := unlock(v.Bytes(), NewSlot{Provider: wrong}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another secret: %v", err)
	}
}

// A provider that does not answer keeps none of the others waiting, and is given up on before Unlock returns.
func TestSlotsAtOnce(t *testing.T) {
	ended := 0
	stuck := func(ctx context.Context) error {
		<-ctx.Done()
		ended++
		return ctx.Err()
	}
	deaf, mute, good := newBox("deaf"), newBox("mute"), newBox("good")
	v := create1(t, NewSlot{Provider: deaf}, NewSlot{Provider: mute}, NewSlot{Provider: good}, keyFile(t, 1), pass("a"))
	deaf.wait = stuck
	f := parsedFile(t, v)
	for what, providers := range map[string][]Provider{
		"a service that answers": {deaf, good},
		"a passphrase":           {deaf, pass("a").Provider},
		"a key file":             {deaf, keyFile(t, 1).Provider},
	} {
		before := ended
		got := held(t)(f.Unlock(t.Context(), providers))
		same(t, got, v)
		if what != "a key file" && ended != before+1 {
			t.Errorf("%s: Unlock returned while a provider was in use", what)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.Unlock(ctx, []Provider{deaf}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answers: %v", err)
	}
}

// One process finds the secret, another opens the vault with it.
func TestFind(t *testing.T) {
	b := newBox("box")
	v := create1(t, keyFile(t, 1), NewSlot{Provider: b}, NewSlot{Provider: newBox("box")})
	f := parsedFile(t, v)
	found, err := f.Find(t.Context(), []Provider{b})
	if err != nil || found.Slot != f.Slots()[1].ID || found.Kind != "box" {
		t.Fatalf("found %v, %v", found.Slot, err)
	}
	same(t, opens(t, v, NewSlot{Provider: Opened(found.Kind, found.Slot, found.W)}), v)
	found.W[0] ^= 1
	if _, err := f.Unlock(t.Context(), []Provider{Opened(found.Kind, found.Slot, found.W)}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another secret: %v", err)
	}
	if _, err := f.Find(t.Context(), []Provider{newBox("box")}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another box: %v", err)
	}
	w, data, err := b.Wrap(t.Context(), SlotInfo{Vault: f.VaultID()})
	if err != nil {
		t.Fatal(err)
	}
	next := held(t)(v.AddSlot(t.Context(), rand.Reader, testTime, NewSlot{Provider: Made("box", data, w)}))
	again := newBox("box")
	again.key = b.key
	same(t, opens(t, next, NewSlot{Provider: again}), v)
}

// A provider's answer is held against its bounds before it is stored.
func TestWrapperBounds(t *testing.T) {
	w := bytes.Repeat([]byte{1}, 32)
	for what, p := range map[string]Wrapper{
		"short secret":    Made("box", ProviderData{Key: "k", Wrapped: []byte{1}}, w[:31]),
		"no name":         Made("box", ProviderData{Wrapped: []byte{1}}, w),
		"unprintable":     Made("box", ProviderData{Key: "a\x1b[2J", Wrapped: []byte{1}}, w),
		"long name":       Made("box", ProviderData{Key: string(bytes.Repeat([]byte("k"), MaxProviderKey+1)), Wrapped: []byte{1}}, w),
		"nothing to keep": Made("box", ProviderData{Key: "k"}, w),
		"much to keep":    Made("box", ProviderData{Key: "k", Wrapped: make([]byte, MaxWrapped+1)}, w),
		"own kind":        Made(KindKeyFile, ProviderData{Key: "k", Wrapped: []byte{1}}, w),
	} {
		if v, err := Create(rand.Reader, testTime, DefaultParams(SuiteAESGCM), []NewSlot{{Provider: p}}); err == nil {
			v.Close()
			t.Errorf("%s: taken", what)
		}
	}
	var slots []NewSlot
	for range MaxSlots { // the largest key file there can be
		slots = append(slots, NewSlot{Label: string(bytes.Repeat([]byte("l"), MaxLabel)),
			Provider: Made("box", ProviderData{Key: string(bytes.Repeat([]byte("k"), MaxProviderKey)), Wrapped: make([]byte, MaxWrapped)}, w)})
	}
	if v := create1(t, slots...); len(v.Bytes()) > MaxSize {
		t.Errorf("%d bytes", len(v.Bytes()))
	}
}

// What changes need is gone from memory with a change; what reading needs is not.
func TestSupersede(t *testing.T) {
	v := create1(t, keyFile(t, 1))
	root, w := v.rootKey, v.w
	next := held(t)(v.Rotate(rand.Reader, testTime))
	v.Supersede()
	if !bytes.Equal(root, make([]byte, 32)) || !bytes.Equal(w, make([]byte, 32)) {
		t.Error("keys are left in memory")
	}
	if !bytes.Equal(kek(t, v, 1), kek(t, next, 1)) || bytes.Equal(kek(t, v, 1), make([]byte, 32)) {
		t.Error("a KEK that may be in use was wiped")
	}
	if _, err := v.Rotate(rand.Reader, testTime); !errors.Is(err, ErrClosed) {
		t.Errorf("changed once more: %v", err)
	}
	if _, err := next.Rotate(rand.Reader, testTime); err != nil {
		t.Errorf("the next: %v", err)
	}
	v.Supersede()
	v.Close()
	v.Supersede()
}
