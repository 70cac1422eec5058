package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
	"envfs/keystore/agekey"
	"envfs/keystore/masterkey"
)

// machine returns what this machine tells of providers.
func (a *app) machine(src *secret.Source) masterkey.Machine {
	return masterkey.Machine{
		Getenv: os.Getenv, Identities: src.Identities, Private: secret.ReadPrivate, Ask: a.term.Passphrase, TPM: src.TPM,
	}
}

// askProviders returns the secret of a slot that a provider opens: one that the user names, or else one for which this
// machine is configured. It returns nil without an error if there is none to ask.
func (a *app) askProviders(ctx context.Context, src *secret.Source, kf *keystore.File) (*secret.Opened, error) {
	all, errs, err := a.providers(ctx, src, kf)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.Join(errs...)
	}
	found, err := a.find(ctx, kf, all, src.WaitOpen)
	if err != nil {
		return nil, errors.Join(append([]error{err}, errs...)...)
	}
	return &secret.Opened{Kind: found.Kind, Slot: found.Slot.String(), W: found.W}, nil
}

// providers returns those of the master keys and identities that the user names, or else all for which this machine is
// configured, with the errors of those that cannot be had.
func (a *app) providers(ctx context.Context, src *secret.Source, kf *keystore.File) (all []keystore.Provider, errs []error, err error) {
	wrappers, err := a.wrappers(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	kinds := kindsOf(kf)
	for _, w := range wrappers {
		all = append(all, w)
		kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == w.Kind() })
	}
	if src.Asks() { // and not what nobody named
		kinds = slices.DeleteFunc(kinds, func(k string) bool { return k != agekey.Kind || len(src.Identities) == 0 })
	}
	configured, errs := masterkey.Configured(ctx, kinds, a.machine(src))
	return append(all, configured...), errs, nil
}

// wrappers returns those of the master keys that the user names.
func (a *app) wrappers(ctx context.Context, src *secret.Source) ([]keystore.Wrapper, error) {
	var all []keystore.Wrapper
	for _, uri := range src.Keys {
		w, err := masterkey.Open(ctx, uri, a.machine(src))
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// The pauses between tries while a provider is away.
const (
	firstPause = time.Second
	lastPause  = 15 * time.Second
)

// find asks the providers, again and again for as long as wait while one of them is away.
func (a *app) find(ctx context.Context, kf *keystore.File, providers []keystore.Provider, wait time.Duration) (keystore.Found, error) {
	deadline := time.Now().Add(wait)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		found, err := kf.Find(ctx, providers)
		left := time.Until(deadline)
		if err == nil || !errors.Is(err, keystore.ErrAway) || left <= 0 {
			return found, err
		}
		if pause == firstPause {
			a.say("%v; waiting", err)
		}
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
			return found, ctx.Err()
		}
	}
}

// makeSecrets has providers make a secret each for slots to come in the vault with key file kf.
func (a *app) makeSecrets(ctx context.Context, src *secret.Source, kf *keystore.File) ([]secret.Made, error) {
	wrappers, err := a.wrappers(ctx, src)
	if err != nil {
		return nil, err
	}
	var all []secret.Made
	for _, w := range wrappers {
		s := keystore.SlotInfo{Vault: kf.VaultID(), Kind: w.Kind()}
		key, data, err := w.Wrap(ctx, s)
		if err != nil {
			return nil, err
		}
		all = append(all, secret.Made{Kind: w.Kind(), Key: data.Key, Wrapped: data.Wrapped, W: key})
	}
	return all, nil
}
