package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"envfs/cmd/envfs/internal/secret"
	"envfs/cmd/envfs/internal/state"
	"envfs/keystore"
	"envfs/keystore/agekey"
	"envfs/keystore/loginkeyring"
	"envfs/keystore/masterkey"
	"envfs/keystore/pkcs11"
	"envfs/keystore/statefile"
)

// machine returns what this machine tells of providers.
func (a *app) machine(src *secret.Source) masterkey.Machine {
	dir, _ := a.at.StatePath() // a provider that needs it says that there is none
	return masterkey.Machine{
		Getenv: os.Getenv, PKCS11: a.tokens(src), TPM: src.TPM, StateDir: dir,
		Identities: src.Identities, Private: secret.ReadPrivate, Ask: a.term.Passphrase,
	}
}

// tokens returns the PKCS#11 module that the user or the environment names, nil if there is none. It is the same one
// for all providers of the process, so that each token is logged in to once.
func (a *app) tokens(src *secret.Source) *pkcs11.Module {
	path := cmp.Or(src.Module, os.Getenv("ENVFS_PKCS11_MODULE"))
	if a.module == nil && path != "" {
		a.module = pkcs11.Load(path, func(ctx context.Context, token string) ([]byte, error) { return src.PIN(ctx, a.term, token) })
	}
	return a.module
}

// closeTokens logs out of all tokens. They may be used again.
func (a *app) closeTokens() {
	if a.module != nil {
		a.module.Close()
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
	for _, w := range configured {
		all = append(all, w)
	}
	return all, errs, nil
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

// newWrappers returns those of the master keys that are to open the store at path from now on, and says which they are
// where the machine has chosen.
func (a *app) newWrappers(ctx context.Context, src *secret.Source, path string) ([]keystore.Wrapper, error) {
	all, err := a.wrappers(ctx, src)
	if err != nil {
		return nil, err
	}
	for i, w := range all {
		if w.Kind() == statefile.Kind {
			if err := a.canKeepKeys(path); err != nil {
				return nil, err
			}
		}
		if src.Keys[i] == masterkey.Auto {
			where := "TPM"
			if w.Kind() == loginkeyring.Kind {
				where = "login keyring"
			}
			a.say("The key is kept by this machine's %s: nothing has to be remembered here.", where)
		}
	}
	return all, nil
}

// canKeepKeys refuses a state directory in which a key of the store at path would be of no use: where the store is, or
// where it does not stay.
func (a *app) canKeepKeys(path string) error {
	if err := a.at.Apart(); err != nil {
		return err
	}
	if !isBucket(path) {
		if err := a.at.ApartFrom(path); err != nil {
			return err
		}
	}
	dir, err := a.at.StateDir()
	if err != nil {
		return err
	}
	if state.Fleeting(dir) {
		a.say("The state directory %s lies in memory (tmpfs): the key is gone when this machine starts again. --state-dir names a place on a disk.", dir)
	}
	return nil
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

// makeSecret has the provider of the one master key that src names make a secret for a slot to come in the vault with key
// file kf in the store at path. forget removes what the provider keeps for that slot; it is nil if that is nothing.
func (a *app) makeSecret(ctx context.Context, src *secret.Source, kf *keystore.File, path string) (m secret.Made, forget func(context.Context) error, err error) {
	wrappers, err := a.newWrappers(ctx, src, path)
	if err != nil {
		return m, nil, err
	}
	w := wrappers[0]
	key, data, err := w.Wrap(ctx, keystore.SlotInfo{Vault: kf.VaultID(), Kind: w.Kind()})
	if err != nil {
		return m, nil, err
	}
	if f, ok := w.(keystore.Forgetter); ok {
		forget = func(ctx context.Context) error { return f.Forget(ctx, data) }
	}
	return secret.Made{Kind: w.Kind(), Key: data.Key, Wrapped: data.Wrapped, W: key}, forget, nil
}
