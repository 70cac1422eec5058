package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
	"envfs/keystore/masterkey"
)

// requestRewrapSlot has the provider of a slot wrap its secret anew, by the newest version of its master key.
func (a *app) requestRewrapSlot(ctx context.Context, arg, name string, src *secret.Source) error {
	return a.requestKeys(ctx, arg, src, func(kf *keystore.File) (*control.KeyChange, error) {
		s, err := findSlot(kf, name)
		if err != nil {
			return nil, err
		}
		k := &control.KeyChange{Op: opRewrap, Slot: s.ID.String()}
		if k.New.Made, err = a.rewrapped(ctx, src, s); err != nil {
			return nil, fmt.Errorf("slot %s: %w", s.ID, err)
		}
		return k, nil
	})
}

// rewrapped asks the slot's provider.
func (a *app) rewrapped(ctx context.Context, src *secret.Source, s keystore.SlotInfo) ([]secret.Made, error) {
	wrappers, err := a.wrappers(ctx, src)
	if err != nil {
		return nil, err
	}
	if len(wrappers) == 0 {
		configured, errs := masterkey.Configured(ctx, []string{s.Kind}, a.machine(src))
		wrappers = configured
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
	}
	for _, w := range wrappers {
		if w.Kind() != s.Kind {
			continue
		}
		wrapped, err := w.Rewrap(ctx, s)
		if err != nil {
			return nil, err
		}
		s.Provider.Wrapped = wrapped
		key, err := w.Secret(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("open what was wrapped anew: %w", err)
		}
		return []secret.Made{{Kind: s.Kind, Key: s.Provider.Key, Wrapped: wrapped, W: key}}, nil
	}
	return nil, fmt.Errorf("%w: nothing is wrapped anew in a slot of kind %s", keystore.ErrNoVersions, s.Kind)
}

// rewrapSlot takes in what the provider of a slot has wrapped anew.
func rewrapSlot(ctx context.Context, old *keystore.Vault, k *control.KeyChange, at time.Time) (*keystore.Vault, error) {
	s, err := findSlot(old.File(), k.Slot)
	if err != nil {
		return nil, err
	}
	if len(k.New.Made) != 1 {
		return nil, fmt.Errorf("%w: nothing was wrapped anew", errUsage)
	}
	m := k.New.Made[0]
	return old.RewrapSlot(ctx, rand.Reader, at, s.ID, keystore.Made(m.Kind, keystore.ProviderData{Key: m.Key, Wrapped: m.Wrapped}, m.W))
}
