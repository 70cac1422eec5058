package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"time"

	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
	"envfs/keystore/masterkey"
	"envfs/keystore/pkcs11"
)

// machine returns what this machine tells of providers.
func (a *app) machine(src *secret.Source) masterkey.Machine {
	return masterkey.Machine{Getenv: os.Getenv, PKCS11: a.tokens(src)}
}

// tokens returns the PKCS#11 module that the user or the environment names, nil if there is none. It is the same one for all
// providers of the process, so that each token is logged in to once.
func (a *app) tokens(src *secret.Source) *pkcs11.Module {
	path := cmp.Or(src.Module, os.Getenv("ENVFS_PKCS11_MODULE"))
	if a.module == nil && path != "" {
		a.module = pkcs11.Load(path, func(ctx context.Context, token string) ([]byte, error) { return src.PIN(ctx, a.term, token) })
	}
	return a.module
}

// askProviders returns the secret of a slot that a provider opens: one that the user names, or else one for which this
// machine is configured. It returns nil without an error if there is none to ask.
func (a *app) askProviders(ctx context.Context, src *secret.Source, kf *keystore.File) (*secret.Opened, error) {
	var (
		all  []keystore.Provider
		errs []error
	)
	if len(src.Keys) > 0 {
		wrappers, err := a.wrappers(ctx, src)
		if err != nil {
			return nil, err
		}
		for _, w := range wrappers {
			all = append(all, w)
		}
	} else {
		all, errs = masterkey.Configured(ctx, kindsOf(kf), a.machine(src))
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
