package dir_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"envfs/remote"
	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
	"envfs/remote/remotetest"
)

func TestOnTheRealFileSystem(t *testing.T) {
	remotetest.RunLocal(t, func(t *testing.T) func() remote.Local {
		path := t.TempDir()
		return func() remote.Local { return mustOpen(t, path, dir.Options{}) }
	})
}

func TestOnMemfs(t *testing.T) {
	for _, syncfs := range []bool{false, true} {
		name := "fdatasync"
		if syncfs {
			name = "syncfs"
		}
		t.Run(name, func(t *testing.T) {
			remotetest.RunLocal(t, func(t *testing.T) func() remote.Local {
				m := memfs.New()
				m.SetCanSyncFS(syncfs)
				return func() remote.Local { return mustOpen(t, "mem", dir.Options{FS: m}) }
			})
		})
	}
}

func mustOpen(t *testing.T, path string, opts dir.Options) *dir.Store {
	t.Helper()
	s, err := dir.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCopies(t *testing.T) {
	t.Run("cp -a", func(t *testing.T) {
		remotetest.RunCopied(t, func(t *testing.T) (open, copied func() remote.Store) {
			path := filepath.Join(t.TempDir(), "original")
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			return func() remote.Store { return openDir(t, path, dir.Options{}) },
				func() remote.Store {
					if out, err := exec.Command("cp", "-a", path, path+".copy").CombinedOutput(); err != nil {
						t.Fatalf("cp: %v\n%s", err, out)
					}
					return openDir(t, path+".copy", dir.Options{})
				}
		})
	})
	t.Run("cp -a over the original", func(t *testing.T) {
		remotetest.RunCopied(t, func(t *testing.T) (open, copied func() remote.Store) {
			path := t.TempDir()
			root := filepath.Join(path, "root")
			return func() remote.Store { return openDir(t, path, dir.Options{}) },
				func() remote.Store { // a backup that was restored in place
					saved := filepath.Join(t.TempDir(), "root")
					for _, args := range [][]string{{"cp", "-a", root, saved}, {"rm", root}, {"cp", "-a", saved, root}} {
						if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
							t.Fatalf("%v: %v\n%s", args, err, out)
						}
					}
					return openDir(t, path, dir.Options{})
				}
		})
	})
	t.Run("memfs", func(t *testing.T) {
		remotetest.RunCopied(t, func(t *testing.T) (open, copied func() remote.Store) {
			m := memfs.New()
			return func() remote.Store { return openDir(t, "mem", dir.Options{FS: m}) },
				func() remote.Store { return openDir(t, "copy", dir.Options{FS: m.Copy()}) }
		})
	})
}

// TestIdentityStaysWhenMoved: a directory that is renamed is the same copy.
func TestIdentityStaysWhenMoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	var told []byte
	if err := openDir(t, path, dir.Options{}).Replace(t.Context(), "root", nil, func(id []byte) ([]byte, error) {
		told = bytes.Clone(id)
		return id, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	id, err := openDir(t, path+"2", dir.Options{}).Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(id, told) {
		t.Errorf("identity %x became %x", told, id)
	}
}
