package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Retry says how often and for how long a request that failed is sent again. Between two attempts lies a random part of
// a pause that doubles from First to Max. No attempt begins later than Patience (or Writing) after the first.
type Retry struct {
	First, Max time.Duration
	Patience   time.Duration

	// Writing is the patience of what writes; 0: Patience.
	Writing time.Duration

	// Attempt bounds one attempt; one that sends or asks for much content gets a second more for each SlowestRate bytes.
	Attempt time.Duration
}

// SlowestRate is the number of bytes a second below which a transfer counts as stalled.
const SlowestRate = 128 << 10

// DefaultRetry overcomes a server that is started again.
var DefaultRetry = Retry{First: 50 * time.Millisecond, Max: 5 * time.Second, Patience: 30 * time.Second, Attempt: 15 * time.Second}

// do calls attempt until it succeeds, or fails in a way that another attempt would not mend, or patience is over. Its error
// is judged. size is the number of bytes that an attempt transfers.
func (s *Store) do(ctx context.Context, size int64, attempt func(ctx context.Context) error) error {
	return s.doFor(ctx, s.retry.Patience, false, size, attempt)
}

// doWriting is do with the patience of what writes.
func (s *Store) doWriting(ctx context.Context, size int64, attempt func(ctx context.Context) error) error {
	return s.doFor(ctx, max(s.retry.Writing, s.retry.Patience), true, size, attempt)
}

func (s *Store) doFor(ctx context.Context, patience time.Duration, writing bool, size int64, attempt func(ctx context.Context) error) error {
	began := time.Now()
	pause := s.retry.First
	for {
		used := s.credentials()
		class, err := s.try(ctx, writing, size, attempt)
		if err == nil {
			return nil
		}
		persist := s.persists.Load() && passes(err)
		renewed := (persist || errors.Is(err, errStale)) && s.renew(used)
		if renewed || persist {
			class = again
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if class == again {
			s.reach.failed(err, writing)
		}
		wait := rand.N(pause + 1)
		if class != again {
			if class == final {
				s.count.fail(err)
			}
			return err
		}
		if time.Since(began)+wait > patience {
			s.count.fail(err)
			if persist {
				return err
			}
			return &ConfigError{
				What: fmt.Sprintf("the server does not answer; gave up after %v", time.Since(began).Round(time.Millisecond)),
				Hint: "check the endpoint in the address, the network, and whether a proxy is set (HTTPS_PROXY)",
				Err:  err,
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, s.retry.Max)
		s.count.retries.Add(1)
	}
}

func (s *Store) try(ctx context.Context, writing bool, size int64, attempt func(ctx context.Context) error) (class, error) {
	if s.closed.Load() {
		return final, errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, s.retry.Attempt+time.Duration(size/SlowestRate)*time.Second)
	defer cancel()
	class, err := judge(attempt(ctx))
	if class == asked {
		s.reach.answered(writing)
	}
	return class, err
}
