package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
	"envfs/keystore/masterkey"
)

// secrets finds what opens the vault with key file kf: where the user says; else by the providers for which this machine is
// configured; else it asks for the passphrase.
func (a *app) secrets(ctx context.Context, src *secret.Source, kf *keystore.File) (secret.Bundle, error) {
	defer a.closeTokens() // what is opened here may stay open for months
	b, err := a.given(ctx, src)
	if err != nil {
		return b, err
	}
	kinds := kindsOf(kf)
	if src.Recovery {
		if !slices.Contains(kinds, keystore.KindRecovery) {
			return b, errors.New("unlock: this vault has no recovery code")
		}
		code, err := a.term.Line(ctx, "Recovery code: ")
		if err != nil {
			return b, fmt.Errorf("recovery code: %w", err)
		}
		b.Recovery = []byte(code)
	}
	if !src.Asks() && !b.Empty() {
		return b, nil
	}
	var asked error
	if b.Opened, asked = a.askProviders(ctx, src, kf); b.Opened != nil {
		return b, nil
	}
	switch {
	case !b.Empty():
		if asked != nil {
			a.say("%v", asked)
		}
	case asked != nil && (src.Asks() || ctx.Err() != nil || !slices.Contains(kinds, keystore.KindPassphrase)):
		return b, asked
	case slices.Contains(kinds, keystore.KindPassphrase):
		if asked != nil {
			a.say("%v", asked)
		}
		if b.Passphrase, err = a.term.Passphrase(ctx, "Passphrase: "); err != nil {
			return b, errors.Join(fmt.Errorf("unlock: %w", err), asked)
		}
	default:
		return b, hint(fmt.Errorf("unlock: this vault is opened by: %s", strings.Join(kinds, ", ")), "%s", howTo(kinds))
	}
	return b, nil
}

// given returns the secrets that the user names; if none is named, those that systemd has for this service.
func (a *app) given(ctx context.Context, src *secret.Source) (secret.Bundle, error) {
	if at := os.Getenv("CREDENTIALS_DIRECTORY"); at != "" && !src.Given() {
		return secret.Credentials(at, "envfs")
	}
	return src.Read(ctx)
}

// kindsOf returns the kinds of the slots of a key file, each once.
func kindsOf(kf *keystore.File) []string {
	var kinds []string
	for _, s := range kf.Slots() {
		kinds = append(kinds, s.Kind)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// howTo names the flags with which secrets of the kinds are given.
func howTo(kinds []string) string {
	var flags []string
	for _, k := range kinds {
		switch k {
		case keystore.KindPassphrase:
			flags = append(flags, "--passfile or --passcmd")
		case keystore.KindKeyFile:
			flags = append(flags, "--keyfile FILE")
		case keystore.KindRecovery:
			flags = append(flags, "--recovery")
		default:
			if flag, ok := masterkey.Flag(k); ok {
				flags = append(flags, flag)
			}
		}
	}
	if len(flags) == 0 {
		return "a newer envfs may know them"
	}
	return "give " + strings.Join(flags, ", or ")
}
