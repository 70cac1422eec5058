package kms

import (
	"time"

	"envfs/kms/store"
)

// Bounds of the days that pass before a key is deleted, as in AWS.
const (
	minWindow     = 7
	maxWindow     = 30
	defaultWindow = 30
)

func (s *Service) enableKey(c *Call, in *keyInput) (*none, error) {
	return s.setState(c, in, stateEnabled)
}
func (s *Service) disableKey(c *Call, in *keyInput) (*none, error) {
	return s.setState(c, in, stateDisabled)
}

func (s *Service) setState(c *Call, in *keyInput, state string) (*none, error) {
	_, err := s.changeKey(c, in.KeyID, func(k *key) error {
		if k.State == statePending {
			return pending(k)
		}
		k.State = state
		return nil
	})
	return &none{}, err
}

type scheduleKeyDeletionInput struct {
	KeyID               string `json:"KeyId"`
	PendingWindowInDays *int
}

type scheduleKeyDeletionOutput struct {
	KeyID               string `json:"KeyId"`
	DeletionDate        *seconds
	KeyState            string
	PendingWindowInDays int
}

func (s *Service) scheduleKeyDeletion(c *Call, in *scheduleKeyDeletionInput) (*scheduleKeyDeletionOutput, error) {
	days := defaultWindow
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	if days < minWindow || days > maxWindow {
		return nil, NewError(codeInvalid, "1 validation error detected: Value '%d' at 'pendingWindowInDays' failed to satisfy constraint: Member must be between %d and %d", days, minWindow, maxWindow)
	}
	k, err := s.changeKey(c, in.KeyID, func(k *key) error {
		if k.State == statePending {
			return pending(k)
		}
		k.State, k.DeletionDate = statePending, c.at.UTC().Truncate(time.Millisecond).Add(time.Duration(days)*day)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &scheduleKeyDeletionOutput{k.arn, at(k.DeletionDate), k.State, days}, nil
}

type keyOutput struct {
	KeyID string `json:"KeyId"`
}

func (s *Service) cancelKeyDeletion(c *Call, in *keyInput) (*keyOutput, error) {
	k, err := s.changeKey(c, in.KeyID, func(k *key) error {
		if k.State != statePending {
			return NewError(codeState, "%s is not pending deletion.", k.arn)
		}
		k.State, k.DeletionDate = stateDisabled, time.Time{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &keyOutput{k.arn}, nil
}

// remove deletes a key whose time has come, with its backing keys and aliases.
func (s *Service) remove(c *Call, k *key) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	now := s.keys[k.id]
	var names []string
	for name, a := range s.aliases {
		if a.Key == backingID(k.id) {
			names = append(names, name)
		}
	}
	s.mu.RUnlock()
	if now == nil || !now.dies(c.at) {
		return nil // it was saved in the meantime
	}
	put := func(tx *store.Tx) error {
		for _, b := range now.Backing {
			if err := tx.Delete(tableBacking, backingName(now, b.ID)); err != nil {
				return err
			}
		}
		for _, name := range names {
			if err := tx.Delete(tableAliases, name); err != nil {
				return err
			}
		}
		return tx.Delete(tableKeys, keyID(k.id))
	}
	return s.commit(c, put, func() {
		for _, name := range names {
			delete(s.aliases, name)
		}
		delete(s.keys, k.id)
		for _, a := range now.backing {
			a.Free()
		}
	})
}

// dies reports whether it is time to delete the key.
func (k *key) dies(now time.Time) bool {
	return k.State == statePending && !now.Before(k.DeletionDate)
}
