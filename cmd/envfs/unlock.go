package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
)

// secrets reads what opens the vault with key file kf from where the user says, or asks for it.
func (a *app) secrets(ctx context.Context, src *secret.Source, kf *keystore.File) (secret.Bundle, error) {
	b, err := src.Read(ctx)
	if err != nil {
		return b, err
	}
	kinds := kindsOf(kf)
	switch {
	case src.Recovery:
		if !slices.Contains(kinds, keystore.KindRecovery) {
			return b, errors.New("unlock: this vault has no recovery code")
		}
		code, err := a.term.Line(ctx, "Recovery code: ")
		if err != nil {
			return b, fmt.Errorf("recovery code: %w", err)
		}
		b.Recovery = []byte(code)
	case src.Given():
	case slices.Contains(kinds, keystore.KindPassphrase):
		if b.Passphrase, err = a.term.Passphrase(ctx, "Passphrase: "); err != nil {
			return b, fmt.Errorf("unlock: %w", err)
		}
	default:
		return b, hint(fmt.Errorf("unlock: this vault is opened by: %s", strings.Join(kinds, ", ")), "%s", howTo(kinds))
	}
	return b, nil
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
		}
	}
	return "give " + strings.Join(flags, ", or ")
}
