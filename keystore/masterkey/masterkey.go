// Package masterkey finds the provider of a master key by the URI that a user gives, or by what this machine is
// configured for. To add a kind, add a package and a line of its own to the table below.
package masterkey

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"envfs/keystore"
	"envfs/keystore/agekey"
	"envfs/keystore/awskms"
	"envfs/keystore/hashivault"
	"envfs/keystore/loginkeyring"
	"envfs/keystore/pkcs11"
	"envfs/keystore/statefile"
	"envfs/keystore/tpm"
)

// Machine is what this machine says about providers, by flags and environment. Nothing of it comes from a vault or is kept
// in one.
type Machine struct {
	// Getenv looks up a variable of the environment, as os.Getenv does.
	Getenv func(string) string
	// PKCS11 is the module for tokens, nil if the machine names none.
	PKCS11 *pkcs11.Module
	// Identities are the age identity files that the user names.
	Identities []string
	// Private reads a file of at most limit bytes and refuses one that others can read.
	Private func(ctx context.Context, name string, limit int64) ([]byte, error)
	// TPM is the device of the machine's TPM, or the socket of a program that is one; empty: tpm.DefaultDevice.
	TPM string
	// StateDir is the directory in which this machine keeps keys of its own, which may not be there yet; empty: there is none.
	StateDir string
	// Ask asks whoever sits at the terminal for a secret, which the caller wipes.
	Ask func(ctx context.Context, prompt string) ([]byte, error)
}

// kind is a kind of master key.
type kind struct {
	name   string // of slots
	scheme string // that begins URIs
	form   string // of a URI, for messages
	// open returns the wrapper for a URI; empty: for slots that are there, where that needs none.
	open func(ctx context.Context, uri string, m Machine) (keystore.Wrapper, error)
	// ready reports whether the machine is configured for opening slots of this kind without a URI.
	ready func(m Machine) bool
	held  Holder // who loses all keys of this kind at once
	// flag opens slots that are there; empty: --key and the form of a URI.
	flag string
}

// kinds is the one table of kinds.
var kinds = [...]kind{
	{awskms.Kind, awskms.Scheme, "awskms://alias/NAME", openAWS, readyAWS, ByService, ""},
	{agekey.Kind, agekey.Scheme, "age1RECIPIENT", openAge, readyAge, ByPerson, "--identity FILE"},
	{tpm.Kind, tpm.Scheme, "tpm:", openTPM, readyTPM, ByMachine, ""},
	{loginkeyring.Kind, loginkeyring.Scheme, "keyring:", openKeyring, readyKeyring, ByMachine, ""},
	{statefile.Kind, statefile.Scheme, "auto", openStateFile, readyStateFile, ByMachine, ""},
	{hashivault.Kind, hashivault.Scheme, hashivault.Form, openVault, readyVault, ByService, ""},
	{pkcs11.Kind, pkcs11.Scheme, pkcs11.Form, openPKCS11, readyPKCS11, ByToken, ""},
}

// Open returns the wrapper for the master key that a URI names, or, for [Auto], one that this machine can keep.
func Open(ctx context.Context, uri string, m Machine) (keystore.Wrapper, error) {
	if uri == Auto {
		return openAuto(ctx, m)
	}
	var forms []string
	for _, k := range kinds {
		if strings.HasPrefix(uri, k.scheme) {
			return k.open(ctx, uri, m)
		}
		forms = append(forms, k.form)
	}
	return nil, fmt.Errorf("key %q: no master key is called so: %s", uri, strings.Join(forms, ", "))
}

// Configured returns the wrappers that open slots of the given kinds and for which this machine is configured, without a
// URI. Those that cannot be had are left out, with their errors.
func Configured(ctx context.Context, slots []string, m Machine) (all []keystore.Wrapper, errs []error) {
	for _, k := range kinds {
		if !slices.Contains(slots, k.name) || !k.ready(m) {
			continue
		}
		p, err := k.open(ctx, "", m)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, p)
	}
	return all, errs
}

// Flag returns what opens slots of a kind on the command line, and whether the kind is known at all.
func Flag(name string) (flag string, ok bool) {
	for _, k := range kinds {
		switch {
		case k.name != name:
		case k.flag != "":
			return k.flag, true
		default:
			return "--key " + k.form, true
		}
	}
	return "", false
}

func openAWS(ctx context.Context, uri string, _ Machine) (keystore.Wrapper, error) {
	name := ""
	if uri != "" {
		var err error
		if name, err = awskms.Parse(uri); err != nil {
			return nil, err
		}
	}
	return awskms.New(ctx, name)
}

// readyAWS: AWS's usual places say nothing unless somebody set them.
func readyAWS(Machine) bool { return true }

func openVault(_ context.Context, uri string, m Machine) (keystore.Wrapper, error) {
	return hashivault.New(uri, m.Getenv)
}

func readyVault(m Machine) bool { return hashivault.Configured(m.Getenv) }

func openPKCS11(_ context.Context, uri string, m Machine) (keystore.Wrapper, error) {
	if uri != "" {
		if _, err := pkcs11.Parse(uri); err != nil {
			return nil, err
		}
	}
	if m.PKCS11 == nil {
		return nil, fmt.Errorf("key %q: no PKCS#11 module is given: name the shared library that came with the token by --pkcs11-module or ENVFS_PKCS11_MODULE", uri)
	}
	return m.PKCS11.Provider(uri)
}

func readyPKCS11(m Machine) bool { return m.PKCS11 != nil }
