package crash

import (
	"errors"
	"strings"
	"testing"

	"envfs/blockcrypt"
	"envfs/fs"
	"envfs/remote"
	"envfs/remote/dir"
	"envfs/remote/dir/memfs"
)

// TestForgedObject puts an object in the place of another that is sealed under the same name with the right key, as
// somebody could who was once let in: only the hash in its reference gives it away.
func TestForgedObject(t *testing.T) {
	ctx, seed := t.Context(), newSeed(t)
	c := newClock()
	m := memfs.New()
	must(t, initVault(ctx, m, seeded(seed), c))
	s, err := newSession(ctx, new(opener), m, emptyTree(c), c, small, seed, 1)
	must(t, err)
	must(t, s.put("/a", s.bytes(100), false), s.fold(), s.remount())
	must(t, s.forge("dirs/"))
	if err := s.verify(); !errors.Is(err, fs.ErrDamaged) {
		t.Fatalf("a forged index was taken for true: %v", err)
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// forge seals the index objects anew, the same but for their nonces.
func (s *session) forge(prefix string) error {
	file, _, err := fs.Peek(s.ctx, s.store, "")
	if err != nil {
		return err
	}
	keys, err := s.opener.unlockNewest(s.ctx, s.store, file)
	if err != nil {
		return err
	}
	v := blockcrypt.Vault{Suite: blockcrypt.Suite(file.Params().Suite), ID: file.VaultID()}
	var names []string
	if err := s.store.List(s.ctx, prefix, func(i remote.Info) error {
		if strings.Contains(baseOf(i.Name), ".d") {
			names = append(names, i.Name)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, name := range names {
		old, err := s.store.Get(s.ctx, name, 1<<20)
		if err != nil {
			return err
		}
		body, epoch, err := v.OpenObject(keys, blockcrypt.KindIndex, name, old)
		if err != nil {
			return err
		}
		kek, err := keys.KEK(epoch)
		if err != nil {
			return err
		}
		data, err := v.SealObject(s.rnd, kek, epoch, blockcrypt.KindIndex, name, body)
		if err != nil {
			return err
		}
		if err := rewrite(s.stage, name, data); err != nil {
			return err
		}
	}
	return nil
}

// rewrite gives a file another content.
func rewrite(m *stage, name string, data []byte) error {
	if err := m.Remove(name); err != nil {
		return err
	}
	f, err := m.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Close()
}

var _ dir.FS = (*stage)(nil)
