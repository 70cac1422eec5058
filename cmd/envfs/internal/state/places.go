package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Places are the two directories that this machine keeps things in, as the user has named them; "": where the environment
// says. The state is as precious as a vault, the cache may be deleted at any time.
type Places struct {
	State string `json:"state_dir,omitempty"`
	Cache string `json:"cache_dir,omitempty"`
}

// ErrInCache refuses a state directory that whoever clears a cache would delete.
var ErrInCache = errors.New("the state directory lies below a cache directory, which may be deleted at any time")

// StateDir returns the state directory, made if it is missing: the one that is named, else $XDG_STATE_HOME/envfs, else
// ~/.local/state/envfs; without a home directory root has /var/lib/envfs.
func (p Places) StateDir() (string, error) {
	dir, err := p.StatePath()
	if err != nil {
		return "", err
	}
	if p.State != "" {
		if err := p.Apart(); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	return dir, nil
}

// StatePath is StateDir for who only looks: nothing is made.
func (p Places) StatePath() (string, error) {
	return placeOf("state", p.State, "XDG_STATE_HOME", ".local/state/envfs", "/var/lib/envfs")
}

// placeOf returns the directory that is named, else the one below the variable's or the home directory, else, for root, a
// fixed one.
func placeOf(what, named, variable, inHome, ofRoot string) (string, error) {
	if named != "" {
		return named, nil
	}
	if d := os.Getenv(variable); filepath.IsAbs(d) {
		return filepath.Join(d, "envfs"), nil
	}
	if d := os.Getenv("HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, inHome), nil
	}
	if os.Getuid() == 0 {
		return ofRoot, nil
	}
	return "", fmt.Errorf("find %s directory: neither HOME nor %s is set; name one with --%s-dir", what, variable, what)
}

// CacheDir returns the directory for what can be fetched again: the one that is named, else $XDG_CACHE_HOME/envfs, else
// ~/.cache/envfs; without a home directory root has /var/cache/envfs.
func (p Places) CacheDir() (string, error) {
	return placeOf("cache", p.Cache, "XDG_CACHE_HOME", ".cache/envfs", "/var/cache/envfs")
}

// Apart returns [ErrInCache] if the state directory lies below a cache directory: this one, the user's, the system's, or
// one that is tagged as such.
func (p Places) Apart() error {
	dir, err := p.StatePath()
	if err != nil {
		return err
	}
	caches := []string{"/var/cache"}
	if own, err := p.CacheDir(); err == nil {
		caches = append(caches, own)
	}
	if d := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(d) {
		caches = append(caches, d)
	}
	if d := os.Getenv("HOME"); filepath.IsAbs(d) {
		caches = append(caches, filepath.Join(d, ".cache"))
	}
	dir = resolve(dir)
	for _, c := range caches {
		if c = resolve(c); within(dir, c) {
			return fmt.Errorf("%s: %w: %s", dir, ErrInCache, c)
		}
	}
	for up := dir; up != "/"; up = filepath.Dir(up) {
		if tagged(up) {
			return fmt.Errorf("%s: %w: %s", dir, ErrInCache, up)
		}
	}
	return nil
}

// ErrWithStore refuses to keep a key in a state directory that travels with the store it opens.
var ErrWithStore = errors.New("the state directory and the store lie one in the other")

// ApartFrom returns [ErrWithStore] if the state directory lies in the directory of a store, or that in the state directory.
func (p Places) ApartFrom(store string) error {
	dir, err := p.StatePath()
	if err != nil {
		return err
	}
	dir, store = resolve(dir), resolve(store)
	if within(dir, store) || within(store, dir) {
		return fmt.Errorf("%w: %s, %s", ErrWithStore, dir, store)
	}
	return nil
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// resolve returns a path without symbolic links, as far as it exists.
func resolve(path string) string {
	path = filepath.Clean(path)
	rest := ""
	for up := path; ; up = filepath.Dir(up) {
		if real, err := filepath.EvalSymlinks(up); err == nil {
			return filepath.Join(real, rest)
		}
		if up == filepath.Dir(up) {
			return path
		}
		rest = filepath.Join(filepath.Base(up), rest)
	}
}

// cacheTag begins the file that tells backup programs to leave a directory out (bford.info/cachedir).
const cacheTag = "Signature: 8a477f597d28d172789f06886806bc55"

const cacheTagName = "CACHEDIR.TAG"

func tagged(dir string) bool {
	f, err := os.Open(filepath.Join(dir, cacheTagName))
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len(cacheTag))
	_, err = io.ReadFull(f, head)
	return err == nil && bytes.Equal(head, []byte(cacheTag))
}

// TagCache makes a cache directory, and marks it as one. On a full disk it does neither: a cache only saves time.
func TagCache(dir string) error {
	if err := os.MkdirAll(dir, 0o700); errors.Is(err, unix.ENOSPC) {
		return nil
	} else if err != nil {
		return fmt.Errorf("make cache directory: %w", err)
	}
	if tagged(dir) {
		return nil
	}
	text := cacheTag + "\n# What envfs has fetched from buckets, encrypted. It may be deleted at any time.\n"
	if err := os.WriteFile(filepath.Join(dir, cacheTagName), []byte(text), 0o600); err != nil && !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("mark cache directory: %w", err)
	}
	return nil
}

// Fleeting reports whether what lies in a directory does not outlive this machine's next start: it is on a tmpfs.
func Fleeting(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC)
}
