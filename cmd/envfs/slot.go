package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
)

// minSlotPrefix is how much of a slot's id names it.
const minSlotPrefix = 4

// findSlot returns the slot that a user names by its id, the beginning of it, or its label; or by its kind, if that is
// no label.
func findSlot(kf *keystore.File, name string) (keystore.SlotInfo, error) {
	if name == "" { // or it would name the slots without a label
		return keystore.SlotInfo{}, fmt.Errorf("%w: no slot is named", errUsage)
	}
	var found, ofKind []keystore.SlotInfo
	for _, s := range kf.Slots() {
		id := s.ID.String()
		if id == name {
			return s, nil
		}
		if s.Label == name || len(name) >= minSlotPrefix && strings.HasPrefix(id, name) {
			found = append(found, s)
		}
		if s.Kind == name {
			ofKind = append(ofKind, s)
		}
	}
	if len(found) == 0 {
		found = ofKind
	}
	switch len(found) {
	case 0:
		return keystore.SlotInfo{}, fmt.Errorf("slot %s: %w", printable(name), keystore.ErrUnknownSlot)
	case 1:
		return found[0], nil
	}
	return keystore.SlotInfo{}, hint(fmt.Errorf("slot %s: several are called so", printable(name)), "name it by its id: `envfs key list`")
}

// newKeyFlags say what a new slot is.
type newKeyFlags struct {
	opening     *secret.Source // what opens the vault now: what it says of this machine counts for the new key, too
	source      secret.Source
	recovery    bool
	recoveryOut string
	label       string
	kdf         kdfFlags

	before uint64                        // generation of the key file when something was left for the new slot
	forget []func(context.Context) error // remove that
}

func (o *newKeyFlags) declare(c *cobra.Command, opening *secret.Source) {
	o.opening = opening
	f := c.Flags()
	o.source.Flags(f, "new-")
	o.source.KeyFlag(f, "new-")
	f.BoolVar(&o.recovery, "new-recovery", false, "make a recovery code and show it")
	f.StringVar(&o.recoveryOut, "recovery-out", "", "make a recovery code and write it to the new file `FILE`")
	f.StringVar(&o.label, "label", "", "a `NAME` for the new slot")
	o.kdf.declare(f)
	c.MarkFlagsMutuallyExclusive("new-key", "new-passfile", "new-passcmd", "new-keyfile", "new-recovery", "recovery-out")
}

// read reads, asks for or makes the new key of the vault that arg names, and puts it into k.
func (o *newKeyFlags) read(ctx context.Context, a *app, arg string, kf *keystore.File, k *control.KeyChange) (err error) {
	kdf, err := o.kdf.params(a)
	if err != nil {
		return err
	}
	k.Label, k.KDFMemory, k.KDFPasses = o.label, kdf.MemoryKiB, kdf.Passes
	switch {
	case o.recovery || o.recoveryOut != "":
		k.New.Recovery, err = a.newRecovery(ctx, o.recoveryOut)
		if err == nil && o.recoveryOut != "" {
			o.leaves(kf, func(context.Context) error { return os.Remove(o.recoveryOut) })
		}
	case len(o.source.Keys) > 1:
		return fmt.Errorf("%w: one new key at a time", errUsage)
	case len(o.source.Keys) == 1:
		o.source.TPM, o.source.Token = o.opening.TPM, o.opening.Token
		var path string
		if path, err = vaultPath(arg); err == nil {
			var made secret.Made
			var forget func(context.Context) error
			if made, forget, err = a.makeSecret(ctx, &o.source, kf, path); err == nil {
				k.New.Made = []secret.Made{made}
			}
			if forget != nil {
				o.leaves(kf, forget)
			}
		}
	case o.source.Given():
		k.New, err = o.source.Read(ctx)
	default:
		k.New.Passphrase, err = a.term.NewPassphrase(ctx, "New passphrase: ")
		if errors.Is(err, secret.ErrNoTerminal) {
			err = hint(fmt.Errorf("new key: %w", err), "give it by --new-passfile, --new-passcmd, --new-keyfile, --new-key or --recovery-out")
		}
	}
	return err
}

// leaves notes that something lies outside of the vault for a slot that is to come into the key file kf.
func (o *newKeyFlags) leaves(kf *keystore.File, forget func(context.Context) error) {
	o.before = kf.Generation()
	o.forget = append(o.forget, forget)
}

// notAsked is why a change was not even asked for.
type notAsked struct{ error }

func (e notAsked) Unwrap() error { return e.error }

// undo takes back what read has left, after a change that has failed for a cause: a file with a recovery code that opens
// nothing, an entry of a keyring. If it cannot be told whether the change was made, that stays.
func (o *newKeyFlags) undo(ctx context.Context, arg string, cause error) error {
	if o.forget == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if _, sure := errors.AsType[notAsked](cause); !sure {
		path, err := vaultPath(arg)
		if err != nil {
			return err
		}
		kf, _, err := peek(ctx, path, "")
		if err != nil || kf.Generation() != o.before || isBucket(path) {
			if o.recoveryOut != "" {
				return fmt.Errorf("whether %s opens the vault is not known: `envfs key test --recovery` tells", printable(o.recoveryOut))
			}
			return errors.New("whether the new key opens the vault is not known: `envfs key test` tells")
		}
	}
	var errs []error
	for _, forget := range o.forget {
		errs = append(errs, forget(ctx))
	}
	return errors.Join(errs...)
}
