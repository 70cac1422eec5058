package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/spf13/pflag"

	"envfs/cmd/envfs/internal/state"
)

// placeFlags declares the flags that say where this machine keeps what belongs to a vault.
func (a *app) placeFlags(f *pflag.FlagSet) {
	f.Var((*dirFlag)(&a.at.State), "state-dir", "keep in `DIR` what waits to be published to a bucket, logs, and what was seen of vaults")
	f.Var((*dirFlag)(&a.at.Cache), "cache-dir", "keep in `DIR` what was fetched from a bucket")
}

// dirFlag is the name of a directory. It is made absolute when it is given, as daemons work elsewhere.
type dirFlag string

func (d *dirFlag) String() string { return string(*d) }
func (d *dirFlag) Type() string   { return "string" }

func (d *dirFlag) Set(name string) error {
	if name == "" {
		return errors.New("it is empty")
	}
	abs, err := filepath.Abs(name)
	*d = dirFlag(abs)
	return err
}

// dirs are where this machine keeps what belongs to one bucket.
type dirs struct{ state, cache string }

// bucketDirs returns the directories of a bucket, of which that of the caches is made. It refuses a state directory that
// could be deleted with a cache.
func bucketDirs(store string, at state.Places) (dirs, error) {
	if err := at.Apart(); err != nil {
		return dirs{}, err
	}
	d, err := dirsOf(store, at)
	if err != nil {
		return dirs{}, err
	}
	if _, err := at.StateDir(); err != nil {
		return dirs{}, err
	}
	return d, state.TagCache(filepath.Dir(d.cache))
}

// dirsOf is bucketDirs for who only looks: nothing is made.
func dirsOf(store string, at state.Places) (dirs, error) {
	base, err := at.StatePath()
	if err != nil {
		return dirs{}, err
	}
	caches, err := at.CacheDir()
	if err != nil {
		return dirs{}, err
	}
	sum := sha256.Sum256([]byte(storeName(store)))
	id := hex.EncodeToString(sum[:10])
	return dirs{filepath.Join(base, "stores", id), filepath.Join(caches, id)}, nil
}

// placeOf is the directory whose lock says that a store is in use on this machine.
func placeOf(store string, at state.Places) string {
	if !isBucket(store) {
		return store
	}
	d, err := dirsOf(store, at)
	if err != nil {
		return ""
	}
	return d.state
}

// waiting is what lies in a state directory and was not published when somebody last looked after it.
func waiting(dir string) (bytes int64, objects int, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > 0 {
			bytes += info.Size()
			objects++
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // nothing was written here, or it is being published just now
	}
	return bytes, objects, err
}

// tellPlaces says where what is written to a bucket waits to be published.
func (a *app) tellPlaces(store, arg string) {
	d, err := dirsOf(store, a.at)
	if err != nil {
		return // the mount would not work
	}
	a.say("What is written waits in %s until it is published; `envfs sync %s` returns when all is.", d.state, shellQuote(arg))
	if state.Fleeting(d.state) {
		a.say("hint: that lies in memory (tmpfs) and is gone when this machine starts again: --state-dir names a place on a disk")
	}
}
