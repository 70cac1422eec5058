package fs

import (
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/keystore"
	"envfs/keystore/pin"
)

// checkPin compares the root with what this client remembers of the vault at this place. Looking at another root on
// purpose needs no pin.
func (f *FS) checkPin(root *blockcrypt.Root, data []byte) error {
	if f.opts.StateDir == "" || f.opts.RootName != "" {
		return nil
	}
	pins, err := pin.Load(f.opts.StateDir, f.vault.ID)
	if err != nil {
		return fmt.Errorf("read what was seen of this vault before: %w", err)
	}
	others, err := pin.OthersAt(f.opts.StateDir, f.store.Location(), f.vault.ID)
	if err != nil {
		return fmt.Errorf("read what was seen at this place before: %w", err)
	}
	if len(others) > 0 {
		return fmt.Errorf("%w: vault %s lies where vault %s was seen", ErrOtherVault, f.vault.ID, others[0])
	}
	if _, seen := pins.At(f.store.Location()); !seen {
		if where, newest, ok := pins.Newest(); ok && newest.RootSeq > root.Seq {
			f.logger.Warn("this copy is older than one seen elsewhere", "seen_at", where, "root", newest.RootSeq, "this", root.Seq)
		}
		return nil
	}
	err = pins.Check(f.store.Location(), f.pinOf(root, data), func(key keystore.Fingerprint, gen uint64) bool {
		return f.keyring().Follows(key, gen)
	})
	switch {
	case err == nil:
		return nil
	case f.opts.AcceptOlder && errors.Is(err, pin.ErrSetBack), f.readOnly && !errors.Is(err, pin.ErrOtherKey):
		f.openedOlder(err)
		return nil
	case errors.Is(err, pin.ErrSetBack):
		return fmt.Errorf("%w: %w", ErrSetBack, err)
	}
	return fmt.Errorf("%w: %w", ErrOtherVault, err)
}

func (f *FS) pinOf(root *blockcrypt.Root, data []byte) pin.Pin {
	file := f.keyring().File()
	return pin.Pin{
		RootKey: file.Fingerprint(), Generation: file.Generation(), RootSeq: root.Seq, RootHash: blockcrypt.Sum(data),
		Durable: pin.Position{Batch: root.Cut, Hash: root.CutHash},
	}
}

// movePin remembers a root that is durable. One that is behind is normal, so an error only gets a line in the log.
func (f *FS) movePin(root *blockcrypt.Root, data []byte) {
	if f.opts.StateDir == "" {
		return
	}
	f.pinned = 0
	p := f.pinOf(root, data)
	if n := f.lasting(); n > p.Durable.Batch {
		p.Durable = pin.Position{Batch: n}
	}
	pins, err := pin.Load(f.opts.StateDir, f.vault.ID)
	if err == nil {
		err = pins.Set(f.store.Location(), p)
	}
	if err != nil {
		f.logger.Warn("what was seen of this vault is not remembered", "cause", err)
	}
}

// lasting returns the last batch that cannot go any more. What is durable here and not published can: when another machine
// goes on without it, and Rescue brings it back. rootMu is held.
func (f *FS) lasting() uint64 {
	if f.shared != nil {
		return f.mine.batch
	}
	return f.durable.Load()
}

// pinDurable remembers how far the journal is durable. Like movePin it is about what is so already, so a pin that is
// behind is normal.
func (f *FS) pinDurable() {
	if f.opts.StateDir == "" || !f.rootMu.TryLock() { // root is being replaced: next time
		return
	}
	defer f.rootMu.Unlock()
	n := f.lasting()
	if n == f.pinned {
		return
	}
	pins, err := pin.Load(f.opts.StateDir, f.vault.ID)
	if err == nil {
		p, ok := pins.At(f.store.Location())
		if !ok || p.Durable.Batch >= n {
			return
		}
		p.Durable = pin.Position{Batch: n}
		err = pins.Set(f.store.Location(), p)
	}
	if err != nil {
		f.logger.Warn("what was seen of this vault is not remembered", "cause", err)
		return
	}
	f.pinned = n
}

// checkDurable compares where the journal ends with what this client has seen durable at this place.
func (f *FS) checkDurable(end uint64) error {
	if f.opts.StateDir == "" || f.opts.RootName != "" {
		return nil
	}
	pins, err := pin.Load(f.opts.StateDir, f.vault.ID)
	if err != nil {
		return fmt.Errorf("read what was seen of this vault before: %w", err)
	}
	p, seen := pins.At(f.store.Location())
	if !seen || end >= p.Durable.Batch {
		return nil
	}
	err = fmt.Errorf("%w: the journal ends at batch %d, batch %d was durable", ErrSetBack, end, p.Durable.Batch)
	if !f.opts.AcceptOlder && !f.readOnly {
		return err
	}
	f.openedOlder(err)
	return nil
}

// forgetOthers removes what is remembered of other vaults at a place where a vault was just made.
func forgetOthers(stateDir, location string, vault blockcrypt.ID) error {
	if stateDir == "" {
		return nil
	}
	others, err := pin.OthersAt(stateDir, location, vault)
	if err != nil {
		return err
	}
	for _, id := range others {
		p, err := pin.Load(stateDir, id)
		if err != nil {
			return err
		}
		if err := p.Forget(location); err != nil {
			return err
		}
	}
	return nil
}
