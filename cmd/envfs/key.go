package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/keystore"
	"envfs/keystore/masterkey"
)

func (a *app) keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Show and change what opens a vault",
		Long: `Show and change the slots of a vault: passphrases, key files, recovery codes, keys of a KMS, an HSM, a TPM, a person. Any one slot
opens the vault. docs/KEYS.md says which way is for whom.

Changes take effect at once and rewrite no data. They work on a mounted vault, too. The flags --passfile, --passcmd,
--keyfile, --key and --recovery give a key that opens the vault now; the flags that begin with --new give the new one.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.keyListCommand(), a.keyAddCommand(), a.keyRemoveCommand(), a.keyReplaceCommand(), a.keyGenerateCommand(),
		a.keyRotateCommand(), a.keyRewrapCommand(), a.keyReencryptCommand(), a.keyStatusCommand(), a.keyTestCommand(),
		a.keyBackupCommand(), a.keyRestoreCommand())
	return c
}

// requestKeys has the change made: by the daemon if the vault is mounted by this user, else here.
func (a *app) requestKeys(ctx context.Context, arg string, src *secret.Source, prepare func(*keystore.File) (*control.KeyChange, error)) error {
	path, err := vaultPath(arg)
	if err != nil {
		return err
	}
	kf, _, err := peek(ctx, path, "")
	if err != nil {
		return err
	}
	// Finding the slot first spares the user from typing secrets for a change that cannot be.
	k, err := prepare(kf)
	if err != nil {
		return err
	}
	defer k.New.Wipe()
	k.Generation = kf.Generation()
	if k.Auth, err = a.secrets(ctx, src, kf); err != nil {
		return notAsked{err}
	}
	defer k.Auth.Wipe()
	changed, err := a.sendKeys(ctx, path, k)
	if err != nil {
		return err
	}
	a.say("Done: %s in generation %d of the key file.", plural(int64(changed.Slots), "slot", "slots"), changed.Generation)
	if k.Op == opRemove || k.Op == opRestore {
		var kinds []string
		for _, s := range changed.Left {
			a.say("  %s  %-10s  %s", s.ID, s.Kind, printable(s.Label))
			kinds = append(kinds, s.Kind)
		}
		if only := masterkey.OnlyHolder(kinds); only != masterkey.BySeveral {
			a.say("hint: every slot hangs on %s: `envfs key add %s --new-recovery` makes a way around it", only, shellQuote(arg))
		}
	}
	return nil
}

// tellingLog is the log of a vault that is open for one verb: what matters is told.
func (a *app) tellingLog() *slog.Logger {
	return slog.New(&teller{Handler: slog.DiscardHandler, tell: func(text string) { a.say("%s", text) }})
}

func (a *app) sendKeys(ctx context.Context, path string, k *control.KeyChange) (changed *control.KeysChanged, err error) {
	clients, err := control.Find(func(h control.Hello) bool { return h.Store == storeName(path) && !h.ReadOnly })
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		defer c.Close()
	}
	if len(clients) > 0 {
		err = clients[0].Do(ctx, control.Request{Verb: control.Keys, Keys: k}, func(r control.Reply) {
			if r.Changed != nil {
				changed = r.Changed
			}
		})
		if err == nil && changed == nil {
			err = errors.New("change keys: the daemon did not say what it did")
		}
		return changed, err
	}
	auth := k.Auth.Clone() // restoring needs it once more
	v, err := open(ctx, path, &auth, openOptions{Places: a.at}, a.tellingLog(), nil)
	if err != nil {
		return nil, err
	}
	changed, err = changeKeys(ctx, v, k, false)
	return changed, errors.Join(err, v.Close(ctx))
}

// changeKeys makes a change of the slots. If the vault was opened by somebody else, who asks must prove to hold a key.
func changeKeys(ctx context.Context, v *vault, k *control.KeyChange, prove bool) (changed *control.KeysChanged, err error) {
	defer k.Auth.Wipe()
	defer k.New.Wipe()
	err = v.ChangeKeys(ctx, func(old *keystore.Vault) (*keystore.Vault, error) {
		if prove {
			auth := k.Auth.Clone() // restoring needs it once more
			asker, err := unlock(ctx, old.File(), &auth)
			if err != nil {
				return nil, err
			}
			asker.Close()
		}
		next, err := nextKeys(ctx, old, k)
		if err == nil {
			changed = &control.KeysChanged{Generation: next.File().Generation(), Slots: len(next.File().Slots())}
			for _, s := range next.File().Slots() {
				changed.Left = append(changed.Left, control.Slot{ID: s.ID.String(), Kind: s.Kind, Label: s.Label})
			}
		}
		return next, err
	})
	if err != nil {
		return nil, err
	}
	return changed, nil
}

// renewPatience bounds how long mounting waits for a shared store to take in a slot that is renewed.
const renewPatience = 10 * time.Second

// renewSlot has the slot that opened the vault name the root key in use, if others have rotated it: from then on it
// opens without HPKE, and who remembers the new root key sees that the slot's holder does, too.
func (v *vault) renewSlot(ctx context.Context) error {
	if v.ReadOnly() || !v.keys.NeedsRenewal() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, renewPatience)
	defer cancel()
	return v.ChangeKeys(ctx, func(old *keystore.Vault) (*keystore.Vault, error) {
		return old.RenewPayload(rand.Reader, time.Now())
	})
}

// nextKeys returns the keys with the change made.
func nextKeys(ctx context.Context, old *keystore.Vault, k *control.KeyChange) (*keystore.Vault, error) {
	now := time.Now()
	if g := old.File().Generation(); g != k.Generation {
		return nil, fmt.Errorf("key file: %w: it is of generation %d now, not %d", keystore.ErrChanged, g, k.Generation)
	}
	switch k.Op {
	case opRotate:
		return old.Rotate(rand.Reader, now)
	case opRestore:
		return restoreSlots(ctx, old, k, now)
	case opRewrap:
		return rewrapSlot(ctx, old, k, now)
	case opRemove:
		s, err := findSlot(old.File(), k.Slot)
		if err != nil {
			return nil, err
		}
		return old.RemoveSlot(rand.Reader, now, s.ID, k.Force)
	}
	kdf, _ := keystore.DefaultKDF()
	if k.KDFMemory != 0 {
		kdf.MemoryKiB = max(k.KDFMemory, minKDF.MemoryKiB)
	}
	if k.KDFPasses != 0 {
		kdf.Passes = max(k.KDFPasses, minKDF.Passes)
	}
	slots, err := newSlots(&k.New, k.Label, kdf)
	if err != nil {
		return nil, err
	}
	if len(slots) != 1 {
		return nil, fmt.Errorf("%w: one new key at a time", errUsage)
	}
	switch k.Op {
	case opAdd:
		return old.AddSlot(ctx, rand.Reader, now, slots[0])
	case opReplace:
		s, err := findSlot(old.File(), k.Slot)
		if err != nil {
			return nil, err
		}
		return old.ReplaceSlot(ctx, rand.Reader, now, s.ID, slots[0])
	}
	return nil, fmt.Errorf("%w: no change of keys is called %q", errUsage, k.Op)
}

// The changes of slots.
const (
	opAdd     = "add"
	opRemove  = "remove"
	opReplace = "replace"
	opRotate  = "rotate"
	opRewrap  = "rewrap" // what a provider has wrapped
	opRestore = "restore"
)
