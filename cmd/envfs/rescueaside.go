package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	vfs "envfs/fs"
)

// What a machine had not published when another one took the vault over is set aside as it is, so that the vault can be
// opened, and stays there until it is brought back:
//
//	stores/ID-kept -> stores/ID-rescue-TIME/kept, then stores/ID -> stores/ID-rescue-TIME/state
//
// Then it becomes stores/ID-done-TIME, which is never looked into again, and is removed.

const (
	keptSuffix  = "-kept"
	asideSuffix = "-rescue-"
	doneSuffix  = "-done-"
	asideTime   = "20060102T150405Z"

	asideState = "state" // the last to come
	asideKept  = "kept"
	asideRoot  = "kept/root"
)

// setAside moves what this machine has not published, and what it kept, out of the way; or goes on where that was cut off.
// The state is locked.
func (d dirs) setAside() error {
	aside, err := d.halfAside()
	if err != nil {
		return err
	}
	if aside == "" {
		if aside, err = d.newAside(); err != nil {
			return err
		}
		if err := os.Rename(d.state+keptSuffix, filepath.Join(aside, asideKept)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set aside what was not published: %w", err)
		}
	}
	if err := syncDirs(aside, filepath.Dir(aside)); err != nil {
		return err
	}
	if err := os.Rename(d.state, filepath.Join(aside, asideState)); err != nil {
		return fmt.Errorf("set aside what was not published: %w", err)
	}
	return syncDirs(aside, filepath.Dir(aside))
}

// halfAside returns the directory in which only what was kept was set aside; "" if there is none, or if more was kept since.
func (d dirs) halfAside() (string, error) {
	if exists(filepath.Join(d.state+keptSuffix, filepath.Base(asideRoot))) {
		return "", nil
	}
	all, err := d.with(asideSuffix)
	if err != nil {
		return "", err
	}
	for _, dir := range slices.Backward(all) {
		if exists(filepath.Join(dir, asideRoot)) && !exists(filepath.Join(dir, asideState)) {
			return dir, nil
		}
	}
	return "", nil
}

func (d dirs) newAside() (string, error) {
	first := d.state + asideSuffix + time.Now().UTC().Format(asideTime)
	for n := 1; ; n++ {
		dir := vfs.Beside(first, n)
		if exists(strings.Replace(dir, asideSuffix, doneSuffix, 1)) {
			continue
		}
		if err := os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
	}
}

// dropHalfAside removes directories to which no state came: the vault is open with it.
func (d dirs) dropHalfAside() error {
	all, err := d.with(asideSuffix)
	for _, dir := range all {
		if !exists(filepath.Join(dir, asideState)) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// asides returns the directories of what was set aside of a store, the oldest first. What was brought back from others is
// removed, if that was cut off.
func (d dirs) asides() (whole []string, err error) {
	done, err := d.with(doneSuffix)
	if err != nil {
		return nil, err
	}
	for _, dir := range done {
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("remove what was brought back: %w", err)
		}
	}
	all, err := d.with(asideSuffix)
	for _, dir := range all {
		if exists(filepath.Join(dir, asideState)) {
			whole = append(whole, dir)
		}
	}
	return whole, err
}

// with returns the directories beside the state whose names go on with suffix, sorted.
func (d dirs) with(suffix string) (found []string, err error) {
	entries, err := os.ReadDir(filepath.Dir(d.state))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(d.state)+suffix) {
			found = append(found, filepath.Join(filepath.Dir(d.state), e.Name()))
		}
	}
	return found, err
}

// removeAside removes what was brought back, but for what lies below damaged/: that joins what the state has there.
func (d dirs) removeAside(dir string) error {
	if err := d.keepDamaged(filepath.Join(dir, asideState, "damaged")); err != nil {
		return fmt.Errorf("keep what is damaged: %w", err)
	}
	done := filepath.Join(filepath.Dir(dir), strings.Replace(filepath.Base(dir), asideSuffix, doneSuffix, 1))
	if err := os.Rename(dir, done); err != nil {
		return fmt.Errorf("remove what was brought back: %w", err)
	}
	if err := syncDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.RemoveAll(done); err != nil {
		return fmt.Errorf("remove what was brought back: %w", err)
	}
	return nil
}

// keepDamaged moves the files in a directory into the state's of damaged ones, over none that is there.
func (d dirs) keepDamaged(from string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	to := filepath.Join(d.state, "damaged")
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		old := filepath.Join(from, e.Name())
		for n := 1; ; n++ {
			if err = os.Link(old, filepath.Join(to, vfs.Beside(e.Name(), n))); !errors.Is(err, fs.ErrExist) {
				break
			}
		}
		if err == nil {
			err = os.Remove(old)
		}
		if err != nil {
			return err
		}
	}
	return syncDirs(to, d.state)
}

// exists reports whether something lies at path, as far as that can be told.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// syncDirs makes what directories name durable.
func syncDirs(names ...string) error {
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("make %s durable: %w", name, err)
		}
	}
	return nil
}
