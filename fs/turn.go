package fs

import "context"

// turn is a mutex that can be given up waiting for: whoever holds it may be waiting for a store that is away.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// Lock waits for its turn.
func (t turn) Lock() { t <- struct{}{} }

// LockContext is Lock, or the error of ctx if that ends before.
func (t turn) LockContext(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TryLock reports whether it was free and is held now.
func (t turn) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// Unlock lets the next one in.
func (t turn) Unlock() { <-t }
