package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
	"envfs/keystore"
	"envfs/remote/cache"
	"envfs/remote/s3"
)

// What a machine had not published when another one took the vault over is set aside as it is, so that the vault can be
// opened, and stays there until it is brought back:
//
//	stores/ID -> stores/ID-rescue-TIME/state, stores/ID-kept -> stores/ID-rescue-TIME/kept

const (
	keptSuffix  = "-kept"
	asideSuffix = "-rescue-"
	asideTime   = "20060102T150405Z"
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
	left, err := a.asides(r.store)
	if err != nil {
		return fmt.Errorf("rescue %s: %w", arg, err)
	}
	if len(left) == 0 {
		a.say("Nothing is left here of %s: all of it is in the bucket.", storeName(r.store))
	}
	for _, dir := range left {
		if err := a.bringBack(ctx, r, dir); err != nil {
			return fmt.Errorf("rescue %s: %w", arg, err)
		}
	}
	return nil
}

// open opens the vault as it is now.
func (a *app) openNow(ctx context.Context, r rescueRequest, readOnly bool) (*vault, error) {
	log := slog.New(&teller{Handler: slog.DiscardHandler, tell: func(text string) { a.say("%s", text) }})
	return openWith(ctx, r.store, r.keys, openOptions{ReadOnly: readOnly, Takeover: r.takeover, Places: a.at}, log, nil)
}

// setAside sets the work aside that keeps the vault from being opened. If none does, what waits here is published.
func (a *app) setAside(ctx context.Context, r rescueRequest) error {
	v, err := a.openNow(ctx, r, false)
	if err == nil {
		return v.FS.Close(ctx)
	}
	if !errors.Is(err, fs.ErrOvertaken) {
		return err
	}
	d, err := bucketDirs(r.store, a.at)
	if err != nil {
		return err
	}
	s, err := openBucket(ctx, r.store, openOptions{Places: a.at}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := lock(s.Local(), r.store, a.at); err != nil {
		return err
	}
	aside := d.state + asideSuffix + time.Now().UTC().Format(asideTime)
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	if err := os.Rename(d.state+keptSuffix, filepath.Join(aside, "kept")); err != nil {
		return err
	}
	return os.Rename(d.state, filepath.Join(aside, "state"))
}

// asides returns the directories of what was set aside of a store, the oldest first.
func (a *app) asides(store string) ([]string, error) {
	d, err := dirsOf(store, a.at)
	if err != nil {
		return nil, err
	}
	all, err := filepath.Glob(d.state + asideSuffix + "*")
	var whole []string
	for _, dir := range all {
		if _, err := os.Stat(filepath.Join(dir, "state")); err == nil {
			whole = append(whole, dir)
		}
	}
	return whole, err
}

// bringBack brings back what was set aside in dir, and removes that if nothing of it is missing.
func (a *app) bringBack(ctx context.Context, r rescueRequest, dir string) (err error) {
	now, err := a.openNow(ctx, r, r.plaintext != "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, now.FS.Close(context.WithoutCancel(ctx))) }()
	far, err := openFar(r.store, true, s3.DefaultRetry.Patience, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	places, err := bucketDirs(r.store, a.at)
	if err != nil {
		return errors.Join(err, far.Close())
	}
	store, err := cache.OpenKept(far, cache.Options{State: filepath.Join(dir, "state"), Kept: filepath.Join(dir, "kept"), Cache: places.cache})
	if err != nil {
		return errors.Join(err, far.Close())
	}
	lost, err := fs.OpenLost(ctx, fs.Options{Store: store, Keys: r.keys, Log: slog.New(slog.DiscardHandler), Clock: clock{}})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	defer func() { err = errors.Join(err, lost.Close(ctx)) }()
	host, err := os.Hostname()
	if err != nil {
		host = "this-machine"
	}
	_, when, _ := strings.Cut(filepath.Base(dir), asideSuffix)
	base := path.Join("rescued", host+"-"+when)
	var to fs.RescueTarget = &fs.IntoVault{FS: now.FS, Base: base}
	if r.plaintext != "" {
		base = filepath.Join(r.plaintext, base)
		to = &plainTarget{base: base}
	}
	res, err := fs.Rescue(ctx, lost, now.FS, to)
	if err != nil {
		return err
	}
	if r.plaintext == "" {
		if err := now.Publish(ctx); err != nil {
			return err
		}
	}
	a.tellRescued(res, base)
	if len(res.Unreadable) > 0 {
		return hint(fmt.Errorf("%w: %s cannot be brought back", errDamage, plural(int64(len(res.Unreadable)), "file", "files")),
			"what was not published stays in %s", dir)
	}
	return os.RemoveAll(dir)
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

// plainTarget is a directory outside of a vault. What is brought back lies there unencrypted.
type plainTarget struct{ base string }

func (t *plainTarget) at(name string) string { return filepath.Join(t.base, filepath.FromSlash(name)) }

// Dir implements fs.RescueTarget.
func (t *plainTarget) Dir(_ context.Context, name string, st fs.Stat, _ map[string][]byte) error {
	if err := os.MkdirAll(t.at(name), 0o700); err != nil {
		return err
	}
	return os.Chmod(t.at(name), os.FileMode(st.Mode&0o777)|0o700)
}

// File implements fs.RescueTarget. Owners and extended attributes stay behind.
func (t *plainTarget) File(_ context.Context, name string, st fs.Stat, _ map[string][]byte, r io.ReaderAt) (err error) {
	if err := os.MkdirAll(filepath.Dir(t.at(name)), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(t.at(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, os.FileMode(st.Mode&0o777)|0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.NewSectionReader(r, 0, int64(st.Size)))
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name())) // nobody is to take a part of it for the whole
	}
	mtime := time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))
	return os.Chtimes(f.Name(), mtime, mtime)
}

// Symlink implements fs.RescueTarget.
func (t *plainTarget) Symlink(_ context.Context, name string, _ fs.Stat, target string) error {
	if err := os.MkdirAll(filepath.Dir(t.at(name)), 0o700); err != nil {
		return err
	}
	err := os.Symlink(target, t.at(name))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// Link implements fs.RescueTarget.
func (t *plainTarget) Link(_ context.Context, old, name string) error {
	err := os.Link(t.at(old), t.at(name))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}
