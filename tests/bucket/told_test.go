package bucket

import (
	"strings"
	"sync"
)

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
