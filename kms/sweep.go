package kms

import (
	"errors"
	"fmt"
)

// serviceName is who the log names for what the service does by itself.
const serviceName = "service"

// Sweep does what is due: it deletes keys whose waiting time is over and rotates those that rotate by themselves. It is
// to be called now and then.
func (s *Service) Sweep() error {
	now := s.now()
	var dead, old []*key
	s.mu.RLock()
	for _, k := range s.keys {
		switch {
		case k.dies(now):
			dead = append(dead, k)
		case k.ages(now):
			old = append(old, k)
		}
	}
	s.mu.RUnlock()
	var errs []error
	for _, k := range dead {
		errs = append(errs, s.byItself("DeleteKey", k, s.remove))
	}
	for _, k := range old {
		errs = append(errs, s.byItself("RotateKey", k, s.rotateByItself))
	}
	return errors.Join(errs...)
}

// byItself does something to a key without being called, and logs it if it was done.
func (s *Service) byItself(action string, k *key, do func(*Call, *key) error) error {
	c := &Call{Action: action, Caller: Caller{ARN: serviceName}, ID: NewRequestID(), at: s.now(), key: k.arn}
	defer s.settle(c)
	if err := do(c, k); err != nil {
		return fmt.Errorf("%s %s: %w", action, k.arn, errors.Join(err, errors.Unwrap(err)))
	}
	if !c.changed {
		return nil
	}
	return s.record(c, okResult)
}
