package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/control"
	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
	"envfs/keystore"
)

func (a *app) keyRestoreCommand() *cobra.Command {
	var (
		src secret.Source
		yes bool
	)
	c := &cobra.Command{
		Use:   "restore STORE FILE",
		Short: "Put a key file back from a backup",
		Long: `Put the key file in FILE, which 'envfs key backup' wrote, back into the vault.

If the vault's own is lost or damaged, and FILE is a copy of it, that is all, and takes no key. If FILE is older than the vault's key file, its
slots take the place of those that there are now: slots that were added since do not open the vault any more, slots that were removed
since open it again, what was replaced is as it was. That takes a key that opens the vault now, and is asked for. A FILE that somebody
else changed is refused; one that is older than all that the keys of now can prove is, too, unless the key given opens it as well.`,
		Example: `  envfs key restore ~/vault /media/stick/vault.keys`,
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.restoreKeys(c.Context(), args[0], args[1], &src, yes); err != nil {
				return fmt.Errorf("key restore: %w", err)
			}
			return nil
		},
	}
	src.Flags(c.Flags(), "")
	src.OpeningFlags(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask whether the slots of now may go")
	return c
}

func (a *app) restoreKeys(ctx context.Context, arg, name string, src *secret.Source, yes bool) error {
	data, err := readKeyFile(name)
	if err != nil {
		return err
	}
	old, err := keystore.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	path, err := vaultPath(arg)
	if err != nil {
		return err
	}
	restored, err := a.putKeyFileBack(ctx, path, data)
	switch {
	case err == nil && restored:
		a.say("The key file is back in its place: generation %d.", old.Generation())
		return nil
	case err == nil:
		a.say("The vault has this key file: generation %d. Nothing was to be done.", old.Generation())
		return nil
	case !errors.Is(err, fs.ErrNotNamed):
		return err
	}
	return a.requestKeys(ctx, arg, src, func(now *keystore.File) (*control.KeyChange, error) {
		if now.VaultID() != old.VaultID() {
			return nil, fmt.Errorf("%s: it is the key file of vault %s, not of %s", name, old.VaultID(), now.VaultID())
		}
		return &control.KeyChange{Op: opRestore, KeyFile: data}, a.confirmRestore(ctx, now, old, yes)
	})
}

// readKeyFile reads a file that may be a key file.
func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, keystore.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// putKeyFileBack puts the key file into its place in the store at path, if root names it.
func (a *app) putKeyFileBack(ctx context.Context, path string, data []byte) (restored bool, err error) {
	s, err := openStore(ctx, path, openOptions{Places: a.at}, slog.New(slog.DiscardHandler))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return fs.RestoreKeyFile(ctx, s, data)
}

// confirmRestore says what restoring undoes, and asks.
func (a *app) confirmRestore(ctx context.Context, now, old *keystore.File, yes bool) error {
	names := func(f, other *keystore.File) string {
		var all []string
		for _, s := range f.Slots() {
			gone := true
			for _, o := range other.Slots() {
				gone = gone && o.ID != s.ID
			}
			if gone {
				all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.ID, s.Kind, printable(s.Label))))
			}
		}
		if all == nil {
			return "none"
		}
		return strings.Join(all, ", ")
	}
	a.say("This key file is of generation %d, of %s; the vault's is of generation %d.", old.Generation(), moment(old.Changed()), now.Generation())
	a.say("Slots that will not open the vault any more: %s.", names(now, old))
	a.say("Slots that will open it again: %s.", names(old, now))
	if yes {
		return nil
	}
	ok, err := a.term.Confirm(ctx, "Put the older slots in place of those of now?")
	if err != nil {
		return hint(fmt.Errorf("nobody can be asked: %w", err), "--yes does it without asking")
	}
	if !ok {
		return errors.New("nothing was changed")
	}
	return nil
}

// restoreSlots puts the slots of an older key file into a vault. If the keys that open the vault now open the older
// file, too, all of its slots can come back.
func restoreSlots(ctx context.Context, now *keystore.Vault, k *control.KeyChange, at time.Time) (*keystore.Vault, error) {
	old, err := keystore.Parse(k.KeyFile)
	if err != nil {
		return nil, err
	}
	auth := k.Auth.Clone()
	opened, err := unlock(ctx, old, &auth)
	if errors.Is(err, keystore.ErrAltered) {
		return nil, err
	}
	if err != nil {
		return now.RestoreSlots(rand.Reader, at, old, nil)
	}
	defer opened.Close()
	return now.RestoreSlots(rand.Reader, at, old, opened)
}
