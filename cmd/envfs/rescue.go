package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
	"envfs/keystore"
	"envfs/remote"
	"envfs/remote/cache"
	"envfs/remote/s3"
)

// rescueRequest says what to bring back, and where to.
type rescueRequest struct {
	store     string // as storePath returned it
	plaintext string // a directory outside of the vault; "": into the vault
	takeover  bool
	keys      *keystore.Vault
}

// rescue brings back what could not be published because the vault was taken over.
func (a *app) rescue(ctx context.Context, arg string, r rescueRequest, src *secret.Source) error {
	var err error
	if r.store, err = storePath(arg); err != nil {
		return fmt.Errorf("rescue: %w", err)
	}
	if !isBucket(r.store) {
		return fmt.Errorf("%w: rescue %s: only of a vault in a bucket can work be left here", errUsage, arg)
	}
	kf, _, err := peek(ctx, r.store, "")
	if err != nil {
		return fmt.Errorf("rescue: %w", err)
	}
	b, err := a.secrets(ctx, src, kf)
	if err != nil {
		return fmt.Errorf("rescue %s: %w", arg, err)
	}
	keys, err := unlock(ctx, kf, &b)
	if err != nil {
		return fmt.Errorf("rescue %s: %w", arg, err)
	}
	r.keys = keys
	defer keys.Close()
	if err := a.setAside(ctx, r); err != nil {
		return fmt.Errorf("rescue %s: %w", arg, err)
	}
	d, err := bucketDirs(r.store, a.at)
	if err != nil {
		return fmt.Errorf("rescue %s: %w", arg, err)
	}
	left, err := d.asides()
	if err != nil {
		return fmt.Errorf("rescue %s: %w", arg, err)
	}
	if len(left) == 0 {
		a.say("Nothing is left here of %s: all of it is in the bucket.", storeName(r.store))
	}
	var failed []error
	for _, dir := range left {
		err := a.bringBack(ctx, r, d, dir)
		if err != nil {
			failed = append(failed, fmt.Errorf("rescue %s: %w", arg, err))
		}
		if err != nil && !staysAside(err) {
			break
		}
	}
	return errors.Join(failed...)
}

// staysAside reports whether an error is about one work that was set aside, and not about the others.
func staysAside(err error) bool {
	for _, own := range []error{errDamage, fs.ErrDamaged, fs.ErrIncomplete, cache.ErrNothingKept} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// openNow opens the vault as it is now. If it is refused because another machine has taken it over, overtaken is called before
// this machine lets go of it; it may be nil.
func (a *app) openNow(ctx context.Context, r rescueRequest, readOnly bool, overtaken func() error) (*vault, error) {
	log := slog.New(&teller{Handler: slog.DiscardHandler, tell: func(text string) { a.say("%s", text) }})
	return openWith(ctx, r.store, r.keys, openOptions{ReadOnly: readOnly, Takeover: r.takeover, Places: a.at, overtaken: overtaken}, log, nil)
}

// setAside sets the work aside that keeps the vault from being opened. If none does, what waits here is published.
func (a *app) setAside(ctx context.Context, r rescueRequest) error {
	d, err := bucketDirs(r.store, a.at)
	if err != nil {
		return err
	}
	done := false
	v, err := a.openNow(ctx, r, false, func() error {
		err := d.setAside()
		done = err == nil
		return err
	})
	switch {
	case err == nil:
		return errors.Join(d.dropHalfAside(), v.FS.Close(ctx))
	case done, r.plaintext != "" && errors.Is(err, fs.ErrOtherWriter): // nothing waits here that keeps it from being opened
		return nil
	}
	return err
}

// bringBack brings back what was set aside in dir, and removes that if nothing of it is missing.
func (a *app) bringBack(ctx context.Context, r rescueRequest, places dirs, dir string) (err error) {
	now, err := a.openNow(ctx, r, r.plaintext != "", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, now.FS.Close(context.WithoutCancel(ctx))) }()
	far, err := openFar(r.store, true, s3.DefaultRetry.Patience, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	fetched := filepath.Join(dir, "cache") // of its own: what this machine had is not what the vault has
	defer func() { err = errors.Join(err, os.RemoveAll(fetched)) }()
	store, err := cache.OpenKept(far, cache.Options{State: filepath.Join(dir, asideState), Kept: filepath.Join(dir, asideKept), Cache: fetched})
	if err != nil {
		return errors.Join(hint(err, "what was not published stays in %s", dir), far.Close())
	}
	if err := store.Local().Lock(); errors.Is(err, remote.ErrInUse) {
		return errors.Join(hint(fmt.Errorf("%s: %w", dir, err), "another rescue is at work on it: wait until it is done"), store.Close())
	} else if err != nil {
		return errors.Join(err, store.Close())
	}
	lost, err := fs.OpenLost(ctx, fs.Options{Store: store, Keys: r.keys, Log: slog.New(slog.DiscardHandler), Clock: clock{}})
	if err != nil {
		return errors.Join(hint(err, "what was not published stays in %s", dir), store.Close())
	}
	defer func() { err = errors.Join(err, lost.Close(ctx)) }()
	host, err := os.Hostname()
	if err != nil {
		host = "this-machine"
	}
	_, when, _ := strings.Cut(filepath.Base(dir), asideSuffix)
	base := path.Join("rescued", host+"-"+when)
	var to fs.RescueTarget = &fs.IntoVault{FS: now.FS, Base: base}
	var plain *plainTarget
	if r.plaintext != "" {
		base = filepath.Join(r.plaintext, base)
		plain = &plainTarget{top: r.plaintext, base: base}
		to = plain
	}
	res, err := fs.Rescue(ctx, lost, now.FS, to)
	if res == nil {
		return hint(err, "what was not published stays in %s", dir)
	}
	if plain != nil {
		err = errors.Join(err, plain.sync())
	} else {
		err = errors.Join(err, now.Publish(ctx))
	}
	a.tellRescued(res, base)
	switch {
	case err != nil:
		return hint(err, "what was not published stays in %s", dir)
	case len(res.Unreadable) > 0:
		return hint(fmt.Errorf("%w: %s cannot be brought back", errDamage, plural(int64(len(res.Unreadable)), "file", "files")),
			"what was not published stays in %s", dir)
	}
	return places.removeAside(dir)
}

// tellRescued says what was brought back.
func (a *app) tellRescued(res *fs.Rescued, base string) {
	for _, name := range res.Unreadable {
		fmt.Fprintln(a.out, printable(name)+": not whole any more")
	}
	a.say("%s, %s, brought back into %s.", plural(int64(res.Files), "file", "files"), size(res.Bytes), printable(base))
	if res.Removed > 0 {
		a.say("%s removed here that were not removed in the vault: look whether you still want them.",
			plural(int64(res.Removed), "name had been", "names had been"))
	}
}
