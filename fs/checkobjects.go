package fs

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/remote"
)

// objects compares what the fold records name with what lies on the store, and checks the journal, the key file and the
// copies.
func (c *checker) objects(ctx context.Context) error {
	f := c.f
	f.mu.Lock()
	fold, keyFile := f.root.Fold, f.root.KeyFile
	f.mu.Unlock()
	if f.journalDamage != "" {
		c.found(Finding{Object: "journal/", What: f.journalDamage, Harm: "what was written after this is missing"})
	}
	if data, err := f.store.Get(ctx, keyFile.Name, maxKeyFile); err != nil || blockcrypt.Sum(data) != keyFile.Hash {
		c.found(Finding{Object: keyFile.Name, What: "the key file is missing or altered", Harm: "the vault cannot be opened again; envfs.json holds a copy"})
	}
	c.copies(ctx)
	live := make(map[string]uint64)
	rec, err := f.loadFold(ctx, fold)
	if err != nil {
		c.found(Finding{Object: fold.Name, What: err.Error(), Harm: "which objects are needed is not known without reading the tree"})
		return nil
	}
	// The oldest first, one at a time: together they say more than memory should hold.
	for _, ref := range slices.Backward(append([]blockcrypt.ObjRef{fold}, rec.Runs...)) {
		r, err := f.loadFold(ctx, ref)
		if err != nil {
			c.found(Finding{Object: ref.Name, What: err.Error(), Harm: "which objects are needed is not known without reading the tree"})
			return nil
		}
		for _, b := range r.Born {
			live[b.Name] = b.Length
		}
		for _, d := range r.Dead {
			delete(live, d.Name)
		}
	}
	c.res.Objects = int64(len(live))
	err = f.store.List(ctx, "", func(i remote.Info) error {
		if n, ok := live[i.Name]; ok {
			if uint64(i.Size) >= n {
				delete(live, i.Name)
			}
			return nil
		}
		if _, err := blockcrypt.ParseName(i.Name); err != nil {
			c.res.Foreign++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	for name := range live {
		c.found(Finding{Object: name, What: "the object is missing or too short", Harm: "what needs it is listed below by path"})
	}
	return nil
}

// copies checks the copy of the key file and that of root. One that a crash has torn or not made is no damage: whoever
// opens the vault for writing makes it.
func (c *checker) copies(ctx context.Context) {
	f := c.f
	const harm = "none now; it would be missed if the original were lost"
	data, err := f.store.Get(ctx, blockcrypt.KeyCopyName, maxKeyFile)
	if err == nil {
		_, err = keystore.Parse(data)
	}
	if err != nil {
		c.found(Finding{Object: blockcrypt.KeyCopyName, What: fmt.Sprintf("the copy of the key file: %v", err), Harm: harm})
	}
	f.mu.Lock()
	name := f.root.Name().String()
	f.mu.Unlock()
	data, err = f.store.Get(ctx, name, blockcrypt.MaxRoot)
	if err != nil {
		return
	}
	if _, err := f.vault.OpenRoot(f.keyring(), data); err == nil {
		return
	}
	root, err := f.store.Get(ctx, blockcrypt.RootName, blockcrypt.MaxRoot)
	if err == nil && !isTorn(data, root) {
		c.found(Finding{Object: name, What: "the copy of root is altered", Harm: harm})
	}
}

// isTorn reports whether data may be what a crash has left of whole.
func isTorn(data, whole []byte) bool {
	for i, b := range data {
		if i >= len(whole) || b != 0 && b != whole[i] {
			return false
		}
	}
	return !bytes.Equal(data, whole)
}
