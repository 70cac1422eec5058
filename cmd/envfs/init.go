package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"envfs/cmd/envfs/internal/secret"
	"envfs/cmd/envfs/internal/state"
	"envfs/fs"
	"envfs/keystore"
	"envfs/keystore/masterkey"
	"envfs/remote"
	"envfs/remote/dir"
)

// The sizes of a new vault, in bytes: what measurements favoured.
const (
	blockSize  = 4 << 10
	smallFile  = 16 << 10
	extentSize = 4 << 20
)

type initFlags struct {
	secrets     secret.Source
	kdf         kdfFlags
	label       string
	noRecovery  bool
	recoveryOut string
}

func (a *app) initCommand() *cobra.Command {
	var o initFlags
	c := &cobra.Command{
		Use:   "init STORE",
		Short: "Make a vault",
		Long: `Make a vault in STORE: a directory, which is created or must be empty, or s3://BUCKET/PREFIX?endpoint=https://HOST.

A passphrase is asked for twice, and a recovery code is offered: 24 words that open the vault when the passphrase is
lost. With --key, a KMS, an HSM, a TPM or a person's age identity opens the vault instead, or as well: docs/KEYS.md. An init that was
interrupted can be run again.`,
		Example: `  envfs init ~/vault
  envfs key generate ~/vault.key && envfs init ~/vault --keyfile ~/vault.key
  envfs init 's3://team/vault?endpoint=https://minio.example:9000'
  envfs init ~/vault --key awskms://alias/photos --recovery-out /media/stick/vault.recovery
  envfs init ~/vault --key auto                          nothing to remember on this machine
  envfs init ~/vault --passcmd 'pass show vault' --recovery-out /media/stick/vault.recovery`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.init(c.Context(), args[0], &o) },
	}
	o.secrets.Flags(c.Flags(), "")
	o.secrets.KeyFlag(c.Flags(), "")
	o.kdf.declare(c.Flags())
	a.placeFlags(c.Flags())
	c.Flags().StringVar(&o.label, "label", "", "a `NAME` for the new slots")
	c.Flags().BoolVar(&o.noRecovery, "no-recovery", false, "do not offer a recovery code")
	c.Flags().StringVar(&o.recoveryOut, "recovery-out", "", "make a recovery code and write it to the new file `FILE`")
	c.MarkFlagsMutuallyExclusive("no-recovery", "recovery-out")
	return c
}

func (a *app) init(ctx context.Context, arg string, o *initFlags) error {
	path, err := newStorePath(arg)
	if err != nil {
		return fmt.Errorf("init: %w", err) // which leaves out what may be secret in an address
	}
	if err := vacant(ctx, path); err != nil {
		return fmt.Errorf("init %s: %w", arg, err)
	}
	kdf, err := o.kdf.params(a)
	if err != nil {
		return err
	}
	wrappers, err := a.newWrappers(ctx, &o.secrets, path)
	if err != nil {
		return fmt.Errorf("init %s: %w", arg, err)
	}
	left := leavings(wrappers)
	b, err := a.firstSecrets(ctx, o, wrappers)
	defer b.Wipe()
	if err != nil {
		return fmt.Errorf("init %s: %w", arg, err)
	}
	slots, err := firstSlots(o, &b, kdf, wrappers)
	if err == nil {
		err = create(ctx, path, slots, a.at)
	}
	if err != nil {
		if ctx := context.WithoutCancel(ctx); vacant(ctx, path) == nil { // what was made opens nothing
			if o.recoveryOut != "" {
				err = errors.Join(err, os.Remove(o.recoveryOut))
			}
			for _, l := range left {
				err = errors.Join(err, l.forget(ctx))
			}
		}
		return fmt.Errorf("init %s: %w", arg, err)
	}
	a.say("The vault is made. Next, mount it on an empty directory:\n  envfs mount %s MOUNTPOINT", shellQuote(arg))
	return nil
}

// newStorePath returns the one spelling of the place of a new vault.
func newStorePath(arg string) (string, error) {
	if strings.Contains(arg, "://") {
		return storePath(arg)
	}
	return filepath.Abs(arg)
}

// createStore opens the place of a new vault.
func createStore(ctx context.Context, path string, at state.Places) (remote.Local, error) {
	if !isBucket(path) {
		return dir.Create(path, dir.Options{})
	}
	s, err := openBucket(ctx, path, openOptions{Places: at}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return s.Local(), nil
}

// leaving is a wrapper that notes what it has left for slots.
type leaving struct {
	keystore.Forgetter
	left []keystore.ProviderData
}

// leavings has those of the wrappers note what they leave that leave anything, and returns them.
func leavings(wrappers []keystore.Wrapper) (all []*leaving) {
	for i, w := range wrappers {
		if f, ok := w.(keystore.Forgetter); ok {
			l := &leaving{Forgetter: f}
			wrappers[i], all = l, append(all, l)
		}
	}
	return all
}

// Wrap implements keystore.Wrapper.
func (l *leaving) Wrap(ctx context.Context, s keystore.SlotInfo) ([]byte, keystore.ProviderData, error) {
	w, data, err := l.Forgetter.Wrap(ctx, s)
	if err == nil {
		l.left = append(l.left, data)
	}
	return w, data, err
}

// forget removes it.
func (l *leaving) forget(ctx context.Context) (err error) {
	for _, data := range l.left {
		err = errors.Join(err, l.Forget(ctx, data))
	}
	return err
}

// firstSecrets reads or asks for what will open a new vault beside the master keys.
func (a *app) firstSecrets(ctx context.Context, o *initFlags, wrappers []keystore.Wrapper) (b secret.Bundle, err error) {
	if b, err = o.secrets.Read(ctx); err != nil {
		return b, err
	}
	if !o.secrets.Given() {
		if b.Passphrase, err = a.term.NewPassphrase(ctx, "New passphrase: "); err != nil {
			return b, err
		}
	}
	only := masterkey.BySeveral
	if b.Empty() {
		var kinds []string
		for _, w := range wrappers {
			kinds = append(kinds, w.Kind())
		}
		only = masterkey.OnlyHolder(kinds)
	}
	wanted := o.recoveryOut != ""
	if !wanted && !o.noRecovery && a.term.Present() {
		if wanted = only != masterkey.BySeveral; !wanted {
			wanted, err = a.term.Confirm(ctx, "Make a recovery code, in case the key is lost?")
		}
		if err != nil {
			return b, err
		}
	}
	if !wanted && !o.noRecovery && only != masterkey.BySeveral {
		return b, hint(fmt.Errorf("all that would open the vault hangs on %s", only),
			"--recovery-out FILE makes a recovery code; --no-recovery does without")
	}
	if wanted {
		b.Recovery, err = a.newRecovery(ctx, o.recoveryOut)
	}
	return b, err
}

// firstSlots returns a slot for each secret and each master key.
func firstSlots(o *initFlags, b *secret.Bundle, kdf keystore.KDFParams, wrappers []keystore.Wrapper) ([]keystore.NewSlot, error) {
	var slots []keystore.NewSlot
	for _, w := range wrappers {
		slots = append(slots, keystore.NewSlot{Kind: w.Kind(), Label: o.label, Provider: w})
	}
	if b.Empty() {
		return slots, nil
	}
	local, err := newSlots(b, o.label, kdf)
	return append(slots, local...), err
}

// vacant refuses a place where no vault can be made: one that holds a vault already, or other files.
func vacant(ctx context.Context, path string) error {
	if isBucket(path) {
		return vacantBucket(ctx, path)
	}
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	_, _, err = peek(ctx, path, "")
	switch {
	case err == nil:
		return hint(errors.New("there is a vault already"), "`envfs info %s` tells more about it", shellQuote(path))
	case errors.Is(err, fs.ErrHalfMade):
	case errors.Is(err, fs.ErrNoVault):
	default:
		return err
	}
	for _, e := range entries {
		if !slices.ContainsFunc(halfMade[:], func(pattern string) bool { return matches(pattern, e.Name()) }) {
			return hint(fmt.Errorf("the directory holds other files (%s)", printable(e.Name())), "make the vault in a new or an empty directory")
		}
	}
	return nil
}

// vacantBucket refuses a bucket or prefix that holds a vault already. What else is there Init refuses.
func vacantBucket(ctx context.Context, path string) error {
	_, _, err := peek(ctx, path, "")
	switch {
	case err == nil:
		return hint(errors.New("there is a vault already"), "`envfs info %s` tells more about it", shellQuote(path))
	case errors.Is(err, fs.ErrHalfMade), errors.Is(err, fs.ErrNoVault):
		return nil
	}
	return err
}

// halfMade is what an interrupted init may have left, and what a fresh file system holds. A star at the end stands for
// anything.
var halfMade = [...]string{"keys", "folds", ".root.tmp-*", ".envfs.json.tmp-*", ".ballast", "lost+found"}

func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return name == pattern
}

// create makes the vault.
func create(ctx context.Context, path string, slots []keystore.NewSlot, at state.Places) (err error) {
	id, err := identify(at)
	if err != nil {
		return err
	}
	now := time.Now()
	params := keystore.Params{Suite: 1, BlockSize: blockSize, SmallFile: smallFile, ExtentSize: extentSize}
	keys, err := keystore.Create(rand.Reader, now, params, slots)
	if err != nil {
		return err
	}
	defer keys.Close()
	store, err := createStore(ctx, path, at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := lock(store, path, at); err != nil {
		return err
	}
	return fs.Init(ctx, store, keys, fs.InitOptions{
		Clock: clock{}, Rand: rand.Reader, Host: id.host, User: id.user, StateDir: state.Pins(id.state), StateID: id.stateID,
		Owner: fs.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())},
	})
}
