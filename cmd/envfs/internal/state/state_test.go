package state

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"envfs/blockcrypt"
)

func TestDir(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_STATE_HOME", base)
	dir, err := Places{}.StateDir()
	if err != nil || dir != filepath.Join(base, "envfs") {
		t.Fatalf("%s, %v", dir, err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", base)
	if dir, err := (Places{}).StatePath(); err != nil || dir != filepath.Join(base, ".local/state/envfs") {
		t.Errorf("%s, %v", dir, err)
	}
}

func TestIDIsDrawnOnce(t *testing.T) {
	dir := t.TempDir()
	var ids [16]blockcrypt.ID
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			var err error
			if ids[i], err = ID(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] || id.IsZero() {
			t.Fatalf("%v and %v", id, ids[0])
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "id"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ID(dir); err == nil {
		t.Error("a damaged id is accepted")
	}
}

func TestLogIsPutAside(t *testing.T) {
	dir := t.TempDir()
	vault := blockcrypt.ID{1}
	f, err := OpenLog(dir, vault)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if err := f.Truncate(maxLog + 1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if f, err = OpenLog(dir, vault); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != 0 {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := os.Stat(f.Name() + ".1"); err != nil {
		t.Error(err)
	}
}

func TestApartFrom(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"state/envfs", "store", "state-of-others"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(base, "store"), filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		state, store string
		apart        bool
	}{
		{"state/envfs", "store", true},
		{"state", "state-of-others", true},
		{"state/envfs", "state/envfs", false},
		{"state/envfs", "state", false},
		{"state", "state/envfs/not/yet", false},
		{"link/state", "store", false},
		{"store/state", "link", false},
		{"store/../state", "state", false},
	} {
		err := Places{State: filepath.Join(base, c.state)}.ApartFrom(base + "/" + c.store)
		if c.apart != (err == nil) || err != nil && !errors.Is(err, ErrWithStore) {
			t.Errorf("state in %s, store in %s: %v", c.state, c.store, err)
		}
	}
}
