package bucket

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// heard returns what comes through a channel. It is not waited for for ever.
func heard[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(5 * time.Minute):
		t.Fatalf("%s: not in five minutes", what)
		panic("not reached")
	}
}

// told is what a running command has said. It closes said when a word has come.
type told struct {
	word string
	said chan struct{}

	mu  sync.Mutex
	all strings.Builder
	hit bool
}

func (w *told) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(p)
	if !w.hit && strings.Contains(w.all.String(), w.word) {
		w.hit = true
		close(w.said)
	}
	return len(p), nil
}

func (w *told) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}
