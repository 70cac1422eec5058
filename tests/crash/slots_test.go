package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"envfs/fs"
	"envfs/keystore"
	"envfs/remote"
	"envfs/remote/dir"
)

// pool is how many master keys there are. Each opens a slot that is labelled with its number, when there is one.
const pool = 5

func slotLabel(n int) string { return fmt.Sprint("key", n) }

func provider(n int) (keystore.Provider, error) {
	return keystore.KeyFile(bytes.Repeat([]byte{7 + byte(n)}, 32))
}

func newSlot(n int) (keystore.NewSlot, error) {
	p, err := provider(n)
	return keystore.NewSlot{Label: slotLabel(n), Provider: p}, err
}

// slotsOf returns the labels of a key file's slots, in order.
func slotsOf(file *keystore.File) string {
	var labels []string
	for _, s := range file.Slots() {
		labels = append(labels, s.Label)
	}
	slices.Sort(labels)
	return strings.Join(labels, " ")
}

// unlockAny opens a key file by one of its slots, after it has tried all keys: those with a slot open it, the others
// do not.
func unlockAny(ctx context.Context, file *keystore.File) (v *keystore.Vault, err error) {
	has := strings.Fields(slotsOf(file))
	if len(has) == 0 {
		return nil, errors.New("a key file without slots")
	}
	chosen := has[file.Generation()%uint64(len(has))]
	for n := range pool {
		p, err := provider(n)
		if err != nil {
			return nil, err
		}
		u, err := file.Unlock(ctx, []keystore.Provider{p})
		switch label := slotLabel(n); {
		case slices.Contains(has, label) && err != nil:
			return nil, fmt.Errorf("slot %s of %q: %w", label, has, err)
		case slices.Contains(has, label) && label == chosen:
			v = u
		case slices.Contains(has, label):
			u.Close()
		case !errors.Is(err, keystore.ErrWrongKey):
			return nil, fmt.Errorf("slot %s, which is none of %q: %w", label, has, err)
		}
	}
	return v, nil
}

// dumpWith is dump, and looks at the slots that the store's root has.
func dumpWith(ctx context.Context, f *fs.FS, st remote.Store) (*tree, error) {
	t, err := dump(ctx, f)
	if err != nil {
		return nil, err
	}
	file, _, err := fs.Peek(ctx, st, "")
	if err != nil {
		return nil, err
	}
	t.slots = slotsOf(file)
	return t, nil
}

// dump is dumpWith for a vault on m.
func (o *opener) dump(ctx context.Context, f *fs.FS, m dir.FS) (*tree, error) {
	st, err := dir.Open("vault", dir.Options{FS: m, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer st.Close()
	return dumpWith(ctx, f, st)
}

func (s *session) dump() (*tree, error) { return dumpWith(s.ctx, s.fs, s.store) }

// keyChange is one that a holder of a key may ask for.
type keyChange struct {
	what string
	edit func(old *keystore.Vault) (*keystore.Vault, error)
	add  string // label of the slot that comes with it
	drop string // and of the one that goes
}

// changeKeys changes the slots or the keys behind them.
func (s *session) changeKeys() error {
	c, err := s.drawKeyChange()
	if err != nil {
		return err
	}
	return s.change(c)
}

func (s *session) change(c *keyChange) error {
	return s.do(c.what, stepKeys, 0, func() (err error) {
		defer s.writesBesidePublishing(&err)()
		var was []byte
		err = s.fs.ChangeKeys(s.ctx, func(old *keystore.Vault) (*keystore.Vault, error) {
			was = old.Bytes()
			return c.edit(old)
		})
		if err == nil {
			s.opener.supersede(was)
		}
		return err
	}, func(t *tree) {
		labels := slices.DeleteFunc(strings.Fields(t.slots), func(l string) bool { return l == c.drop })
		if c.add != "" {
			labels = append(labels, c.add)
		}
		slices.Sort(labels)
		t.slots = strings.Join(labels, " ")
	})
}

// writesBesidePublishing writes while what waits is published before a change of keys, so that more waits then. It returns what ends that, and adds an error to the other's.
func (s *session) writesBesidePublishing(to *error) (end func()) {
	if s.shared == nil {
		return func() {}
	}
	var inner error
	done := false
	s.shared.setBeside(func(name string) {
		if !done && strings.HasPrefix(name, "journal/") {
			done, inner = true, s.put(fmt.Sprintf("/beside%d", s.nextID), s.bytes(s.size()), false)
		}
	})
	return func() {
		s.shared.setBeside(nil)
		*to = errors.Join(*to, inner)
	}
}

func (s *session) drawKeyChange() (*keyChange, error) {
	has := strings.Fields(s.tree.slots)
	old, _ := pick(s, has)
	var free []int
	for n := range pool {
		if !slices.Contains(has, slotLabel(n)) {
			free = append(free, n)
		}
	}
	n, isFree := pick(s, free)
	switch s.rng.IntN(4) {
	case 0:
		if isFree {
			return s.addSlot(n)
		}
	case 1:
		if len(has) > 1 {
			return s.removeSlot(old), nil
		}
	case 2:
		if isFree {
			return s.replaceSlot(old, n)
		}
	}
	return s.rotation(), nil
}

func (s *session) addSlot(n int) (*keyChange, error) {
	slot, err := newSlot(n)
	return &keyChange{what: "add slot " + slot.Label, add: slot.Label, edit: func(old *keystore.Vault) (*keystore.Vault, error) {
		return old.AddSlot(s.ctx, s.rnd, s.clock.Now(), slot)
	}}, err
}

func (s *session) removeSlot(label string) *keyChange {
	return &keyChange{what: "remove slot " + label, drop: label, edit: func(old *keystore.Vault) (*keystore.Vault, error) {
		return old.RemoveSlot(s.rnd, s.clock.Now(), labelled(old, label).ID, true)
	}}
}

func (s *session) replaceSlot(label string, n int) (*keyChange, error) {
	slot, err := newSlot(n)
	what := fmt.Sprintf("replace slot %s by %s", label, slot.Label)
	return &keyChange{what: what, drop: label, add: slot.Label, edit: func(old *keystore.Vault) (*keystore.Vault, error) {
		return old.ReplaceSlot(s.ctx, s.rnd, s.clock.Now(), labelled(old, label).ID, slot)
	}}, err
}

// rotation begins a new key epoch, or renews what the slot that opened the vault holds if that is due.
func (s *session) rotation() *keyChange {
	return &keyChange{what: "rotate keys", edit: func(old *keystore.Vault) (*keystore.Vault, error) {
		if old.NeedsRenewal() {
			return old.RenewPayload(s.rnd, s.clock.Now())
		}
		return old.Rotate(s.rnd, s.clock.Now())
	}}
}

func labelled(v *keystore.Vault, label string) keystore.SlotInfo {
	for _, s := range v.File().Slots() {
		if s.Label == label {
			return s
		}
	}
	return keystore.SlotInfo{}
}
