package fs

import (
	"context"
	"errors"
	"sync"
)

// errClosing ends long work beside a mount that ends.
var errClosing = errors.New("the vault is being closed")

// works are the long pieces of work beside a mount that go through the whole tree. Nothing may use keys or store once
// Close has released them, so Close ends these first. The zero value has none.
type works struct {
	mu    sync.Mutex
	ended bool
	next  int
	stop  map[int]context.CancelCauseFunc
	all   sync.WaitGroup
}

// begin returns the context of a piece of work, which ends with ctx or when the vault is closed. done is to be called
// at its end.
func (w *works) begin(ctx context.Context) (work context.Context, done func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil, nil, errClosing
	}
	work, cancel := context.WithCancelCause(ctx)
	id := w.next
	w.next++
	if w.stop == nil {
		w.stop = make(map[int]context.CancelCauseFunc)
	}
	w.stop[id] = cancel
	w.all.Add(1)
	return work, func() {
		w.mu.Lock()
		delete(w.stop, id)
		w.mu.Unlock()
		cancel(nil)
		w.all.Done()
	}, nil
}

// because says of an error for which the end of work may be why, what ended it.
func because(work context.Context, err error) error {
	if cause := context.Cause(work); err != nil && errors.Is(cause, errClosing) && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// end ends all work and waits for it. None begins any more.
func (w *works) end() {
	w.mu.Lock()
	w.ended = true
	for _, cancel := range w.stop {
		cancel(errClosing)
	}
	w.mu.Unlock()
	w.all.Wait()
}
