package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"envfs/blockcrypt"
)

// A Wrapper is a [Provider] whose master key lies elsewhere: in a KMS, an HSM, a TPM, with another person. It makes W for
// a slot, and the slot keeps what only the master key makes W of again. Nothing but W is ever given to it, and what it
// needs to find its service (addresses, modules, credentials) it has from this machine, never from a key file.
//
// Every method ends soon after its context does, and no method waits for longer than a minute in all. Errors wrap
// [ErrRefused] if who holds the master key said no, and [ErrAway] if nobody could be asked.
// Implementations are safe for concurrent use.
type Wrapper interface {
	Provider
	// Wrap makes a W for the new slot s, 32 random bytes, and returns it with what the slot keeps. The caller wipes W.
	Wrap(ctx context.Context, s SlotInfo) (W []byte, d ProviderData, err error)
	// Rewrap returns what takes the place of s.Provider.Wrapped, under the newest version of the same master key and for
	// the same W. It returns [ErrNoVersions] where a master key has no versions.
	Rewrap(ctx context.Context, s SlotInfo) (wrapped []byte, err error)
	// Describe tells about the master key of the slot s without opening it.
	Describe(ctx context.Context, s SlotInfo) (Description, error)
}

// A Forgetter is a [Wrapper] that keeps something of its own for each slot.
type Forgetter interface {
	Wrapper
	// Forget removes what Wrap has left for a slot that has not come to be. If nothing is there any more, it returns nil.
	Forget(ctx context.Context, d ProviderData) error
}

// ProviderData is what a slot keeps for a [Wrapper]. It is only data: nothing in it is followed.
type ProviderData struct {
	Key     string // names the master key to its provider; at most MaxProviderKey bytes of printable UTF-8
	Wrapped []byte // what the provider made of W; at most MaxWrapped bytes
}

// Description is what a provider tells about a master key.
type Description struct {
	Name    string // as people call it
	State   string // "enabled", or why it does not open now
	Version string // the newest version, where there are versions
	Place   string // the service or device that was asked
}

// Context binds W to what it is for: the ids of vault and domain, readable, as they show in a provider's log, and the
// purpose. It never holds a path or a name.
func (s SlotInfo) Context() map[string]string {
	c := map[string]string{"envfs-vault": s.Vault.String(), "envfs-purpose": "slot"}
	if !s.Domain.IsZero() {
		c["envfs-domain"] = s.Domain.String()
	}
	return c
}

// ContextText is [SlotInfo.Context] in one line, for providers that take bytes: its one spelling.
func (s SlotInfo) ContextText() string {
	text := "envfs slot vault=" + s.Vault.String()
	if !s.Domain.IsZero() {
		text += " domain=" + s.Domain.String()
	}
	return text
}

// opened is the W of one slot that is known already.
type opened struct {
	kind string
	slot blockcrypt.ID
	w    []byte
}

// Opened returns a provider for who has the W of a slot already, from [File.Find]. w must stay as it is while the provider
// is in use; wiping it is the caller's work.
func Opened(kind string, slot blockcrypt.ID, w []byte) Provider {
	return provider{kind, opened{kind, slot, w}.secret}
}

func (o opened) secret(_ context.Context, s SlotInfo) ([]byte, error) {
	if s.ID != o.slot {
		return nil, errOtherSlot
	}
	return bytes.Clone(o.w), nil
}

var errOtherSlot = errors.New("it is another slot's secret")

// made is a W that was made, or wrapped, already.
type made struct {
	kind string
	data ProviderData
	w    []byte
}

// Made returns a wrapper for one slot that is to be made or rewrapped, for which another process has asked the provider
// already. w must stay as it is while the wrapper is in use; wiping it is the caller's work.
func Made(kind string, data ProviderData, w []byte) Wrapper { return made{kind, data, w} }

func (m made) Kind() string { return m.kind }

func (m made) Secret(context.Context, SlotInfo) ([]byte, error) { return bytes.Clone(m.w), nil }

func (m made) Wrap(context.Context, SlotInfo) ([]byte, ProviderData, error) {
	return bytes.Clone(m.w), m.data, nil
}

func (m made) Rewrap(context.Context, SlotInfo) ([]byte, error) {
	return bytes.Clone(m.data.Wrapped), nil
}

func (m made) Describe(context.Context, SlotInfo) (Description, error) { return Description{}, nil }

// wrap asks a wrapper for a new W and checks what it returns.
func wrap(ctx context.Context, now time.Time, p Wrapper, info SlotInfo) (w []byte, doc *providerDocument, err error) {
	w, d, err := p.Wrap(ctx, info)
	if err != nil {
		return nil, nil, err
	}
	doc = &providerDocument{Key: d.Key, Wrapped: d.Wrapped, Since: newTime(now)}
	if len(w) != blockcrypt.KeySize {
		err = fmt.Errorf("provider %q: secret of %d bytes", p.Kind(), len(w))
	} else {
		err = doc.check()
	}
	if err != nil {
		clear(w)
		return nil, nil, err
	}
	return w, doc, nil
}
