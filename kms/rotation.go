package kms

import (
	"time"

	"envfs/kms/store"
)

// Bounds of the days between rotations, as in AWS.
const (
	minPeriod = 90
	maxPeriod = 2560
)

type enableKeyRotationInput struct {
	KeyID                string `json:"KeyId"`
	RotationPeriodInDays *int
}

func (s *Service) enableKeyRotation(c *Call, in *enableKeyRotationInput) (*none, error) {
	days := defaultPeriod
	if in.RotationPeriodInDays != nil {
		days = *in.RotationPeriodInDays
	}
	if days < minPeriod || days > maxPeriod {
		return nil, NewError(codeInvalid, "1 validation error detected: Value '%d' at 'rotationPeriodInDays' failed to satisfy constraint: Member must be between %d and %d", days, minPeriod, maxPeriod)
	}
	_, err := s.changeKey(c, in.KeyID, func(k *key) error {
		if err := k.usable(); err != nil {
			return err
		}
		k.Rotate, k.PeriodDays = true, days
		k.NextRotation = c.at.UTC().Truncate(time.Millisecond).Add(time.Duration(days) * day)
		return nil
	})
	return &none{}, err
}

func (s *Service) disableKeyRotation(c *Call, in *keyInput) (*none, error) {
	_, err := s.changeKey(c, in.KeyID, func(k *key) error {
		if err := k.usable(); err != nil {
			return err
		}
		k.Rotate, k.PeriodDays, k.NextRotation = false, 0, time.Time{}
		return nil
	})
	return &none{}, err
}

type keyRotationStatus struct {
	KeyID                string `json:"KeyId"`
	KeyRotationEnabled   bool
	RotationPeriodInDays int      `json:",omitempty"`
	NextRotationDate     *seconds `json:",omitempty"`
}

func (s *Service) getKeyRotationStatus(c *Call, in *keyInput) (*keyRotationStatus, error) {
	k, done, err := s.readKey(c, in.KeyID)
	if err != nil {
		return nil, err
	}
	defer done()
	return &keyRotationStatus{k.arn, k.Rotate, k.PeriodDays, at(k.NextRotation)}, nil
}

type rotation struct {
	KeyID        string `json:"KeyId"`
	RotationDate *seconds
	RotationType string
}

type listKeyRotationsInput struct {
	KeyID              string `json:"KeyId"`
	IncludeKeyMaterial string
	page
}

type listKeyRotationsOutput struct {
	Rotations []rotation
	pageEnd
}

func (s *Service) listKeyRotations(c *Call, in *listKeyRotationsInput) (*listKeyRotationsOutput, error) {
	k, done, err := s.readKey(c, in.KeyID)
	if err != nil {
		return nil, err
	}
	defer done()
	all := []rotation{}
	for _, b := range k.Backing[1:] {
		all = append(all, rotation{k.arn, at(b.Created), b.Why})
	}
	out := &listKeyRotationsOutput{}
	out.Rotations, out.pageEnd, err = cut(all, in.page, 100, 1000)
	return out, err
}

func (s *Service) rotateKeyOnDemand(c *Call, in *keyInput) (*keyOutput, error) {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	k, err := s.targetByID(c, c.Action, in.KeyID)
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	if err := s.rotate(c, k, rotatedOnDemand); err != nil {
		return nil, err
	}
	return &keyOutput{k.arn}, nil
}

// rotate gives a key a new backing key. The caller holds s.change.
func (s *Service) rotate(c *Call, k *key, why string) error {
	if err := k.usable(); err != nil {
		return err
	}
	if len(k.Backing) >= maxBackingKeys {
		return NewError(codeLimit, "%s has been rotated %d times, and cannot be more often.", k.arn, maxBackingKeys-1)
	}
	next := k.changed()
	made, err := next.addBacking(&s.room, c.at.UTC().Truncate(time.Millisecond), why)
	if err != nil {
		return err
	}
	if next.Rotate {
		next.NextRotation = c.at.UTC().Truncate(time.Millisecond).Add(time.Duration(next.PeriodDays) * day)
	}
	err = s.commit(c, func(tx *store.Tx) error {
		if err := putKey(tx, next); err != nil {
			return err
		}
		return putBacking(tx, next)
	}, func() { s.keys[next.id] = next })
	if err != nil {
		made.Free()
	}
	return err
}

// rotateByItself rotates a key whose time has come.
func (s *Service) rotateByItself(c *Call, k *key) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	now := s.keys[k.id]
	s.mu.RUnlock()
	if now == nil || !now.ages(c.at) {
		return nil
	}
	return s.rotate(c, now, rotatedByItself)
}

// ages reports whether it is time to rotate the key.
func (k *key) ages(now time.Time) bool {
	return k.State == stateEnabled && k.Rotate && !now.Before(k.NextRotation) && len(k.Backing) < maxBackingKeys
}
